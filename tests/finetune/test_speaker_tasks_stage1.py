"""Stage 1 on ASV and SD, whose reported metrics cannot be summed up over batches: other ones are followed on dev."""

import csv

import pytest
import torch
from lhotse import CutSet, SupervisionSegment

from speechft.corpora import load_split
from speechft.encoders import load_encoder
from speechft.errors import TaskError
from speechft.finetune import finetune
from speechft.recipes.finetuning import FinetuneRecipe


@pytest.fixture(scope="module")
def mixtures(corpus, tmp_path_factory):
    """The corpus with two turns in each recording."""
    folder = tmp_path_factory.mktemp("mixtures")
    for split in ("train", "dev"):
        cuts = []
        for cut in load_split(corpus, split):
            half = cut.duration / 2
            cut.supervisions = [
                SupervisionSegment(f"{cut.id}-{index}", cut.id, index * half, half, channel=0, speaker=speaker)
                for index, speaker in enumerate("ab")
            ]
            cuts.append(cut)
        CutSet.from_cuts(cuts).to_file(folder / f"{split}.jsonl.gz")
    return folder


@pytest.mark.parametrize(("task", "columns"), [("asv", ["dev_ASV_ACC"]), ("sd", ["dev_SD_ACC", "dev_SD_FRAME_DER"])])
def test_speaker_tasks_fine_tune_an_encoder(task, columns, theta0, corpus, mixtures, tmp_path):
    recipe = FinetuneRecipe(task=task, updates=4, batch_size=6, validate_every=2, peak_lr=1e-3, seed=3, head_only=0.0)
    finetune(theta0, recipe, {"asv": corpus, "sd": mixtures}[task], tmp_path / "out")
    with (tmp_path / "out/training.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [name for name in rows[0] if name.startswith("dev_")][1:] == columns
    assert [bool(row[columns[0]]) for row in rows] == [False, True] * 2
    assert f'"selected_by": "dev {columns[0].removeprefix("dev_")}"' in (tmp_path / "out/provenance.json").read_text()
    before, after = load_encoder(theta0).backbone.state_dict(), load_encoder(tmp_path / "out").backbone.state_dict()
    assert any(not torch.equal(before[name], after[name]) for name in before)


def test_query_by_example_has_nothing_to_train(theta0, corpus, tmp_path):
    recipe = FinetuneRecipe(task="qbe", updates=2, batch_size=2, validate_every=1)
    with pytest.raises(TaskError, match="has no head"):
        finetune(theta0, recipe, corpus, tmp_path / "out")
    assert not (tmp_path / "out").exists()
