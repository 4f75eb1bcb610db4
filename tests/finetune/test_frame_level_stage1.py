"""Stage 1 on tasks with recurrent and frame-level heads: nothing in it is made for one task."""

import csv

import pytest
import torch
from lhotse import CutSet
from lhotse.supervision import AlignmentItem

from speechft.corpora import load_split
from speechft.encoders import load_encoder
from speechft.files.hashes import sha256_file
from speechft.finetune import finetune
from speechft.finetune.batches import CutDataset
from speechft.recipes.finetuning import FinetuneRecipe
from speechft.tasks import get_task

SMALL = {"projected": 16, "hidden": 8, "layers": 2}
RECIPE = FinetuneRecipe(task="asr", task_options=SMALL, updates=6, batch_size=6, validate_every=3, peak_lr=1e-3, seed=3, head_only=0.0)


@pytest.fixture(scope="module")
def annotated(corpus, tmp_path_factory):
    """The corpus with slots as labels and phones as alignment."""
    folder = tmp_path_factory.mktemp("annotated")
    for split in ("train", "dev"):
        cuts = []
        for cut in load_split(corpus, split):
            supervision = cut.supervisions[0]
            supervision.custom = {"label": "number O"}
            half = cut.duration / 2
            supervision.alignment = {"phone": [AlignmentItem("h#", 0.0, half), AlignmentItem("iy", half, half)]}
            cuts.append(cut)
        CutSet.from_cuts(cuts).to_file(folder / f"{split}.jsonl.gz")
    return folder


def read_log(out):
    with (out / "training.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(
    ("task", "options", "columns"),
    [
        ("asr", SMALL, ["dev_ASR", "dev_ASR_CER"]),
        ("asr", {**SMALL, "spelling": "tedlium", "selection": "cer"}, ["dev_ASR_CER", "dev_ASR"]),
        ("asr", {**SMALL, "spelling": "characters"}, ["dev_ASR", "dev_ASR_CER"]),
        ("sf", SMALL, ["dev_SF_F1", "dev_SF_CER"]),
        ("pc", {}, ["dev_PC"]),
    ],
)
def test_every_task_fine_tunes_an_encoder(task, options, columns, theta0, annotated, tmp_path):
    finetune(theta0, RECIPE.model_copy(update={"task": task, "task_options": options}), annotated, tmp_path / "out")
    rows = read_log(tmp_path / "out")
    assert len(rows) == 6
    assert [name for name in rows[0] if name.startswith("dev_")][1:] == columns
    assert all([bool(row[name]) for row in rows] == [False, False, True] * 2 for name in columns)
    before, after = load_encoder(theta0).backbone.state_dict(), load_encoder(tmp_path / "out").backbone.state_dict()
    assert any(not torch.equal(before[name], after[name]) for name in before)


def test_dropout_and_augmentation_are_repeated_after_an_interruption(theta0, annotated, tmp_path, monkeypatch):
    from speechft.fairseq_plugin.trainer import import_fairseq

    import_fairseq()
    from speechft.fairseq_plugin.task import FinetuneTask

    finetune(theta0, RECIPE, annotated, tmp_path / "whole")
    original = FinetuneTask.optimizer_step

    def interrupted(task, optimizer, model, update_num):
        if update_num == 4:
            raise KeyboardInterrupt
        original(task, optimizer, model, update_num)

    with monkeypatch.context() as patch:
        patch.setattr(FinetuneTask, "optimizer_step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            finetune(theta0, RECIPE, annotated, tmp_path / "out", tmp_path / "work")
    finetune(theta0, RECIPE, annotated, tmp_path / "out", tmp_path / "work")
    assert sha256_file(tmp_path / "out/model.safetensors") == sha256_file(tmp_path / "whole/model.safetensors")


def test_features_are_augmented_in_training_only(theta0, annotated):
    from speechft.fairseq_plugin.trainer import import_fairseq

    import_fairseq()
    from speechft.fairseq_plugin.model import EncoderWithHead

    task = get_task("asr", **SMALL, dropout=0.0)
    cuts = load_split(annotated, "train")
    labels = task.label_set(cuts)
    data = CutDataset(cuts, "train", task, labels, batch_size=4, max_batch_seconds=100.0)
    batch = data.collater([data[0], data[1]])
    encoder = load_encoder(theta0)
    model = EncoderWithHead(encoder, {"asr": task.build_head(encoder.hidden_size, labels)}, RECIPE)
    model.eval()
    torch.manual_seed(0)
    with torch.no_grad():
        plain = [model(batch["waveforms"], "asr")[0] for _ in range(2)]
        model.head.train()
        # Few dimensions and frames are often masked all.
        augmented = [model(batch["waveforms"], "asr")[0] for _ in range(10)]
    assert torch.equal(*plain)
    assert len({tuple(logits.flatten().tolist()) for logits in augmented}) > 1


def test_half_precision(theta0, annotated, tmp_path):
    finetune(theta0, RECIPE.model_copy(update={"updates": 2, "validate_every": 1, "precision": "bf16"}), annotated, tmp_path / "out")
    assert [bool(row["dev_ASR"]) for row in read_log(tmp_path / "out")] == [True, True]
