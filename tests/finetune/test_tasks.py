"""Stage 1 on all kinds of tasks: nothing in it is made for one of them."""

import pytest
import torch
from finetune.watching import differing, read_log
from lhotse import CutSet, SupervisionSegment
from lhotse.supervision import AlignmentItem
from safetensors.torch import load_file

from speechft.corpora import load_split
from speechft.encoders import load_encoder
from speechft.errors import TaskError
from speechft.fairseq_plugin.trainer import import_fairseq
from speechft.finetune import finetune
from speechft.finetune.batches import CutDataset
from speechft.recipes.finetuning import FinetuneRecipe
from speechft.recipes.values import validate
from speechft.tasks import get_task

SMALL = {"projected": 16, "hidden": 8, "layers": 2}
RECIPE = FinetuneRecipe(task="asr", updates=4, batch_size=6, validate_every=2, peak_lr=1e-3, seed=3, head_only=0.0)
# ASV and SD follow other metrics on dev than those that they report, which cannot be summed up over batches.
CASES = [
    ("asr", SMALL, "fp32", ["ASR", "ASR_CER"]),
    ("asr", {**SMALL, "spelling": "tedlium", "selection": "cer"}, "fp32", ["ASR_CER", "ASR"]),
    ("asr", {**SMALL, "spelling": "characters"}, "bf16", ["ASR", "ASR_CER"]),
    ("sf", SMALL, "fp32", ["SF_F1", "SF_CER"]),
    ("pc", {}, "fp32", ["PC"]),
    ("asv", {}, "fp32", ["ASV_ACC"]),
    ("sd", {}, "fp32", ["SD_ACC", "SD_FRAME_DER"]),
]
OWN_CASES = [
    ("classification", {"label": "speaker", "metric": ["uar", "acc"]}, ["mine_uar", "mine_acc"]),
    ("regression", {"label": "age", "metric": ["ccc", "mse"]}, ["mine_ccc", "mine_mse"]),
    ("multilabel", {"label": "moods"}, ["mine_f1"]),
    ("ctc", SMALL, ["mine_cer"]),
    ("frame_classification", {}, ["mine_acc"]),
    ("verification", {"width": 8, "pooled_width": 16}, ["ASV_ACC"]),
]


@pytest.fixture(scope="module")
def corpora(corpus, tmp_path_factory):
    """The corpus with slots as labels and phones as alignment, and with two turns in each recording."""
    folder = tmp_path_factory.mktemp("corpora")
    for name in ("annotated", "turns"):
        (folder / name).mkdir()
        for split in ("train", "dev"):
            cuts = list(load_split(corpus, split))
            for cut in cuts:
                half = cut.duration / 2
                if name == "turns":
                    cut.supervisions = [
                        SupervisionSegment(f"{cut.id}-{speaker}", cut.id, start, half, speaker=speaker)
                        for speaker, start in (("a", 0), ("b", half))
                    ]
                else:
                    number = int(cut.supervisions[0].speaker[1:])
                    cut.supervisions[0].custom = {"label": "number O", "age": str(20 + number), "moods": ("glad|loud", "sad", "")[number]}
                    cut.supervisions[0].alignment = {"phone": [AlignmentItem("h#", 0.0, half), AlignmentItem("iy", half, half)]}
            CutSet.from_cuts(cuts).to_file(folder / name / f"{split}.jsonl.gz")
    return folder


@pytest.mark.parametrize(("task", "options", "precision", "metrics"), CASES)
def test_every_task_fine_tunes_an_encoder(task, options, precision, metrics, theta0, corpora, tmp_path):
    recipe = RECIPE.model_copy(update={"task": task, "task_options": options, "precision": precision})
    check_finetuning(recipe, metrics, theta0, corpora / ("turns" if task == "sd" else "annotated"), tmp_path)


@pytest.mark.parametrize(("kind", "options", "metrics"), OWN_CASES)
def test_every_kind_of_ones_own_fine_tunes_an_encoder(kind, options, metrics, theta0, corpora, tmp_path):
    changes = {"task": "mine", "kind": kind, "task_options": options, "updates": 4, "validate_every": 2, "peak_lr": 1e-3, "head_only": 0}
    check_finetuning(validate(FinetuneRecipe, changes, "test"), metrics, theta0, corpora / "annotated", tmp_path)


def check_finetuning(recipe, metrics, theta0, corpus, tmp_path):
    finetune(theta0, recipe, corpus, tmp_path / "out")
    rows = read_log(tmp_path / "out")
    assert [name for name in rows[0] if name.startswith("dev_")] == ["dev_loss", *(f"dev_{metric}" for metric in metrics)]
    assert all([bool(row[f"dev_{metric}"]) for row in rows] == [False, True] * 2 for metric in metrics)
    assert f'"selected_by": "dev {metrics[0]}"' in (tmp_path / "out/provenance.json").read_text()
    before, after = (load_file(path / "model.safetensors") for path in (theta0, tmp_path / "out"))
    assert differing(before, after)
    assert {tensor.dtype for tensor in after.values()} == {torch.float32}


def test_query_by_example_has_nothing_to_train(theta0, corpus, tmp_path):
    with pytest.raises(TaskError, match="has no head"):
        finetune(theta0, RECIPE.model_copy(update={"task": "qbe"}), corpus, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_features_are_augmented_in_training_only(theta0, corpora):
    import_fairseq()
    from speechft.fairseq_plugin.model import EncoderWithHead

    task = get_task("asr", **SMALL, dropout=0.0)
    cuts = load_split(corpora / "annotated", "train")
    labels = task.label_set(cuts)
    data = CutDataset(cuts, "train", task, labels, batch_size=4, max_batch_seconds=100.0)
    waveforms = [data[0]["speech"], data[1]["speech"]]
    encoder = load_encoder(theta0)
    model = EncoderWithHead(encoder, {"asr": task.build_head(encoder.hidden_size, labels)}, RECIPE)
    model.eval()
    torch.manual_seed(0)
    with torch.no_grad():
        plain = [model(waveforms, "asr")[0] for _ in range(2)]
        model.head.train()
        # Few dimensions and frames are often masked all.
        augmented = [model(waveforms, "asr")[0] for _ in range(10)]
    assert torch.equal(*plain)
    assert len({tuple(logits.flatten().tolist()) for logits in augmented}) > 1
