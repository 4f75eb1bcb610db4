"""Recipes that have a name: what the authors released, and one for every task that can be fine-tuned on."""

import pytest
from lhotse import CutSet

from speechft.corpora import load_split
from speechft.encoders import load_encoder
from speechft.errors import ConfigError, TaskError
from speechft.finetune import finetune
from speechft.finetune.batches import CutDataset
from speechft.finetune.splits import load_stage1_split
from speechft.recipes.finetuning import FinetuneRecipe
from speechft.recipes.presets import RELEASED_RECIPES, stage1_recipes
from speechft.recipes.values import validate
from speechft.tasks import TASK_NAMES, get_task, task_of
from speechft.tasks.catalog import KINDS
from speechft.tasks.er import er_fold_split
from speechft.tasks.heads import RecurrentHead


def recipe(**values):
    return validate(FinetuneRecipe, values, "test")


def test_every_task_with_a_head_has_one():
    assert set(stage1_recipes()) == set(TASK_NAMES) - {"qbe"} | set(KINDS) | set(RELEASED_RECIPES)
    for name in stage1_recipes():
        chosen = recipe(like=name, **({"task": "mine"} if name in KINDS else {}))
        assert (chosen.peak_lr, chosen.warmup, chosen.hold, chosen.head_only, chosen.clip_norm) == (1e-4, 0.1, 0.4, 0.1, 1.0)
        task_of(chosen.parts[chosen.task])


def test_keys_that_are_given_win_and_options_are_completed():
    chosen = recipe(like="asr_tedlium", updates=7, task_options={"selection": "wer"})
    assert (chosen.updates, chosen.batch_size) == (7, 32)
    assert chosen.task_options == {**RELEASED_RECIPES["asr_tedlium"]["task_options"], "selection": "wer"}
    assert validate(FinetuneRecipe, chosen.model_dump(mode="json"), "again") == chosen
    with pytest.raises(ConfigError, match="Unknown preset 'asr_ted'"):
        recipe(like="asr_ted")
    with pytest.raises(ConfigError, match="'sid' is a preset for task 'sid', not 'er'"):
        recipe(like="sid", task="er")


def test_the_released_recipes():
    chosen = recipe(like="er_iemocap")
    assert (chosen.updates, chosen.batch_size, chosen.accumulate, chosen.validate_every, chosen.fold) == (30_000, 4, 8, 1000, "1")
    chosen = recipe(like="asr_tedlium")
    assert (chosen.updates, chosen.batch_size, chosen.accumulate, chosen.validate_every) == (50_000, 32, 1, 2000)
    task = get_task("asr", **chosen.task_options)
    labels = task.label_set([])
    assert (len(labels), labels.symbols[0], labels.symbols[4:7]) == (32, "<pad>", ("|", "E", "T"))
    assert task.selection_metric.key == "ASR_CER"
    head = task.build_head(768, labels)
    assert isinstance(head, RecurrentHead)
    assert (head.projector.out_features, head.dropout.p) == (256, 0.2)
    assert [(rnn.hidden_size, rnn.bidirectional) for rnn in head.rnns] == [(256, True)] * 3
    assert (head.augment.time_warp, head.augment.time_masks, head.augment.frequency_masks) == (5, 2, 4)


def test_buckets_of_tedlium_are_halved_and_keep_a_last_single_one(make_corpus, tmp_path):
    folder = make_corpus(tmp_path / "corpus", {"train": 9}, seconds=(0.3, 0.6))
    cuts = load_split(folder, "train")
    task = get_task("asr", **RELEASED_RECIPES["asr_tedlium"]["task_options"])
    options = {"batch_size": 4, "max_batch_seconds": 400.0, "num_batches": 10, "seed": 1, "order": "superb"}
    data = CutDataset(cuts, "train", task, task.label_set(cuts), **options)
    longest = sorted(range(9), key=lambda item: -data.lengths[item])
    buckets = [longest[start : start + 2] for start in range(0, 9, 2)]
    served = [[index % 9 for index in batch] for batch in data.batch_by_size(None)]
    for epoch in (served[:5], served[5:]):
        assert sorted(epoch) == sorted(buckets)
    assert [index // 9 for batch in data.batch_by_size(None) for index in batch] == [0] * 9 + [1] * 9


@pytest.fixture
def with_folds(corpus, tmp_path):
    cuts = list(load_split(corpus, "train"))
    for number, cut in enumerate(cuts):
        cut.custom = {"fold": str(number % 3 + 1)}
    folder = tmp_path / "folds"
    folder.mkdir()
    CutSet.from_cuts(cuts).to_file(folder / "train.jsonl.gz")
    return folder


def test_a_fold_leaves_its_recordings_out_and_divides_the_others(with_folds):
    task = get_task("er")
    manifests = {"train": with_folds / "train.jsonl.gz"}
    rest = [cut.id for cut in load_split(with_folds, "train") if cut.custom["fold"] != "1"]
    for split, chosen in zip(("train", "dev"), er_fold_split(len(rest)), strict=True):
        assert [cut.id for cut in load_stage1_split(task, manifests, split, "1")] == [rest[index] for index in chosen]
    with pytest.raises(TaskError, match="no fold '9'. Folds: 1, 2, 3"):
        load_stage1_split(task, manifests, "train", "9")
    with pytest.raises(TaskError, match="task 'sid' has no folds"):
        load_stage1_split(get_task("sid"), manifests, "train", "1")


def test_iemocap_runs_on_a_corpus_with_folds(theta0, with_folds, tmp_path):
    chosen = recipe(like="er_iemocap", updates=4, accumulate=2, validate_every=2)
    finetune(theta0, chosen, with_folds, tmp_path / "out")
    load_encoder(tmp_path / "out")
