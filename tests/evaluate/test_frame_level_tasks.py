"""ASR, SF and PC from manifests to cells, on tones."""

import numpy as np
import pytest
import torch
from evaluate.tone_corpus import PITCH, SIZES, make_cut, tone, write_splits
from lhotse.supervision import AlignmentItem

from speechft.encoders import load_encoder
from speechft.errors import ConfigError, TaskError
from speechft.evaluate import evaluate
from speechft.evaluate.data.features import FrameFeatures, FrozenEncoder
from speechft.evaluate.data.splits import load_splits
from speechft.evaluate.probes.bank import Setting, isolated_rng, new_head
from speechft.evaluate.probes.separate import SeparateProbes
from speechft.recipes.cell import read_cell
from speechft.recipes.evaluation import SUPERB_RECIPES, evaluation_recipe
from speechft.tasks import get_task

SMALL = {"projected": 24, "hidden": 16, "layers": 2}
QUICK = {
    "asr": {"task_options": SMALL, "batch_size": 6, "learning_rates": [1e-2, 1e-3]},
    "sf": {"task_options": SMALL, "batch_size": 4, "learning_rates": [1e-2, 1e-3]},
    "pc": {"batch_size": 6, "learning_rates": [1e-2, 1e-4]},
}
QUICK = {task: {"protocol": "quick", "steps": 8, "eval_every": 4, **recipe} for task, recipe in QUICK.items()}
PHONES = {"low": "axr", "middle": "iy", "high": "s"}
WORDS = {"low": ("PLAY JAZZ", "O genre"), "middle": ("GO", "O"), "high": ("CALL MY MUM", "O person person")}


def annotated(folder, cut_id, first, second, generator):
    """One pitch, then another; words and slots of the first, phones of both."""
    samples = [int(generator.integers(4000, 7000)) for _ in range(2)]
    waveform = np.concatenate([tone(PITCH[kind], "anna", count, generator) for kind, count in zip((first, second), samples, strict=True)])
    text, slots = WORDS[first]
    cut = make_cut(folder / "wav", cut_id, waveform, text, "anna", slots)
    border, end = samples[0] / 16000, sum(samples) / 16000
    cut.supervisions[0].alignment = {
        "phone": [AlignmentItem(PHONES[first], 0.0, border), AlignmentItem(PHONES[second], border, end - border)]
    }
    return cut


def annotated_splits(folder):
    generator = np.random.default_rng(0)
    kinds = list(PITCH)
    pairs = [(first, second) for first in kinds for second in kinds if first != second]
    return {
        split: [annotated(folder, f"{split}{index:03d}", *pairs[index % len(pairs)], generator) for index in range(size)]
        for split, size in SIZES.items()
    }


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("annotated")
    return write_splits(folder, annotated_splits(folder))


def without_times(cell):
    return {key: value for key, value in cell.items() if key != "seconds"}


@pytest.mark.parametrize(("task", "keys", "labels"), [("asr", ["ASR"], 32), ("sf", ["SF_F1", "SF_CER"], 35), ("pc", ["PC"], 39)])
def test_a_cell_holds_every_metric(task, keys, labels, model_dir, corpus, tmp_path):
    cell = evaluate(model_dir, task, corpus, tmp_path / "cell.json", QUICK[task])
    read_cell(tmp_path / "cell.json")
    assert list(cell["metrics"]) == keys
    assert cell["counts"]["labels"] == labels
    assert cell["counts"]["encoder_passes"] == sum(SIZES.values())
    assert cell["counts"]["train"]["dropped"] == {}
    assert [trial["best_step"] in (4, 8) for trial in cell["trials"]] == [True, True]
    again = evaluate(model_dir, task, corpus, tmp_path / "again.json", QUICK[task])
    assert without_times(again) == without_times(cell)


def test_phones_of_frames_are_learned(model_dir, corpus, tmp_path):
    recipe = {**QUICK["pc"], "steps": 80, "eval_every": 40}
    cell = evaluate(model_dir, "pc", corpus, tmp_path / "cell.json", recipe)
    # A third by chance; frames near a border hear both sides.
    assert cell["metrics"]["PC"] > 80.0
    assert cell["trials"][0]["dev"]["PC"] > cell["trials"][1]["dev"]["PC"]


@pytest.mark.parametrize("task", ["asr", "sf"])
def test_a_learning_rate_is_trained_alike_alone_and_beside_others(task, model_dir, corpus, tmp_path):
    """Dropout and augmentation are random, and still do not depend on which other rates there are."""
    together = evaluate(model_dir, task, corpus, tmp_path / "a.json", {**QUICK[task], "eval_every": 1})
    alone = evaluate(model_dir, task, corpus, tmp_path / "b.json", {**QUICK[task], "eval_every": 1, "learning_rates": [1e-3]})
    assert together["trials"][1]["dev"] == alone["trials"][0]["dev"]
    assert together["trials"][1]["best_step"] == alone["trials"][0]["best_step"]


def bank_of(task_name, model_dir, corpus, rates, **options):
    task = get_task(task_name, **options)
    encoder = FrozenEncoder(load_encoder(model_dir), torch.device("cpu"))
    labels, splits = load_splits(task, corpus, encoder.encoder, crop_draws=1)
    recipe = evaluation_recipe(task_name, {"protocol": "quick", "steps": 10, "eval_every": 5, "learning_rates": rates})
    setting = Setting(task, labels, recipe, torch.device("cpu"))
    bank = SeparateProbes(setting, encoder.encoder.num_states, new_head(task, encoder.encoder.hidden_size, labels, 0))
    return bank, FrameFeatures(encoder, splits["train"].clips), splits["train"]


def test_weights_of_a_rate_do_not_depend_on_other_rates(model_dir, corpus):
    states = []
    for rates in ([1e-1, 1e-3, 1e-2], [1e-3]):
        bank, features, train = bank_of("asr", model_dir, corpus, rates, **SMALL)
        with isolated_rng(5, torch.device("cpu")):
            for step in range(4):
                rows = [step, step + 6]
                bank.train_step(features, [(rows, [train.targets[row] for row in rows])] * 2)
        states.append(bank.state(rates.index(1e-3)))
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_batches_and_steps_have_dropout_of_their_own(model_dir, corpus):
    bank, features, train = bank_of("asr", model_dir, corpus, [1e-9], **SMALL)
    batch = ([0, 1], list(train.targets[:2]))
    with isolated_rng(5, torch.device("cpu")):
        losses = [bank.train_step(features, [batch])[0] for _ in range(3)]
    assert len(set(losses)) == 3


def test_a_killed_evaluation_repeats_its_dropout(model_dir, corpus, tmp_path, monkeypatch):
    recipe = {**QUICK["asr"], "eval_every": 2}
    expected = evaluate(model_dir, "asr", corpus, tmp_path / "whole.json", recipe)
    original, made = SeparateProbes.train_step, []

    def train_step(self, features, batches):
        made.append(1)
        if len(made) == 6:
            raise KeyboardInterrupt
        return original(self, features, batches)

    monkeypatch.setattr(SeparateProbes, "train_step", train_step)
    with pytest.raises(KeyboardInterrupt):
        evaluate(model_dir, "asr", corpus, tmp_path / "cell.json", recipe)
    cell = evaluate(model_dir, "asr", corpus, tmp_path / "cell.json", recipe)
    # Five steps before the interruption, of which four are kept, and four after it.
    assert len(made) == 6 + 4
    assert without_times(cell) == without_times(expected)


@pytest.mark.parametrize("task", ["asr", "sf"])
def test_recurrent_heads_learn(task, model_dir, corpus):
    bank, features, train = bank_of(task, model_dir, corpus, [1e-2], **SMALL, spec_augment=False, dropout=0.0)
    features.keep(1e9, "train")
    batch = (list(range(6)), list(train.targets[:6]))
    losses = [bank.train_step(features, [batch])[0] for _ in range(60)]
    assert losses[-1] < 0.3 * losses[0]


def test_the_utterance_that_buckets_leave_over_is_counted(model_dir, tmp_path):
    splits = annotated_splits(tmp_path)
    splits["train"] = splits["train"][:13]
    cell = evaluate(model_dir, "asr", write_splits(tmp_path, splits), tmp_path / "cell.json", QUICK["asr"])
    assert cell["counts"]["train"]["utterances"] == 13
    assert cell["counts"]["train"]["dropped"] == {"alone in the last bucket": 1}


def test_frames_past_the_budget_are_recomputed(model_dir, corpus, tmp_path):
    recipe = {**QUICK["asr"], "learning_rates": [1e-4], "cache_gb": 0.0}
    cell = evaluate(model_dir, "asr", corpus, tmp_path / "cell.json", recipe)
    # 8 steps with half a bucket of 6, two evaluations of dev, test.
    assert cell["counts"]["encoder_passes"] == 8 * 3 + 2 * SIZES["dev"] + SIZES["test"]


@pytest.mark.parametrize(
    ("task", "change", "message"),
    [
        ("asr", {"text": ""}, "strange: has an empty transcript"),
        ("sf", {"label": "O brand"}, r"strange: slot type\(s\) brand are not among the 2"),
        ("sf", {"label": "O"}, r"strange: has 2 word\(s\), but 1 slot"),
        ("pc", {"phone": "xx"}, "strange: phones xx are not among TIMIT's 61"),
        ("pc", {"phone": None}, "strange: has no phone segments"),
    ],
)
def test_annotations_that_can_not_be_used(task, change, message, model_dir, tmp_path):
    splits = annotated_splits(tmp_path)
    cut = make_cut(
        tmp_path / "wav", "strange", 0.1 * np.ones(8000), change.get("text", "PLAY JAZZ"), "anna", change.get("label", "O genre")
    )
    phone = change.get("phone", "aa")
    cut.supervisions[0].alignment = None if phone is None else {"phone": [AlignmentItem(phone, 0.0, 0.5)]}
    splits["dev"].append(cut)
    with pytest.raises(TaskError, match=f"(?s)dev split.*{message}"):
        evaluate(model_dir, task, write_splits(tmp_path, splits), tmp_path / "cell.json", QUICK[task])
    assert not (tmp_path / "cell.json").exists()


def test_recipes_are_the_published_ones():
    for task in ("asr", "sf"):
        recipe = evaluation_recipe(task)
        found = (recipe.steps, recipe.batch_size, recipe.accumulate, recipe.optimizer, recipe.clip_norm, recipe.eval_every)
        assert found == (200_000, 32, 1, "Adam", 1.0, 2000)
    assert SUPERB_RECIPES["pc"]["steps"] == 20_000


@pytest.mark.parametrize(
    ("task", "options"), [("asr", SMALL), ("sf", {"spec_augment": False}), ("asv", {"width": 8}), ("sd", {"hidden": 8})]
)
def test_another_head_is_not_superb(task, options):
    with pytest.raises(ConfigError, match=f"task_options {', '.join(sorted(options))}: not SUPERB's head or loss; write"):
        evaluation_recipe(task, {"task_options": options})
    assert evaluation_recipe(task, {"task_options": options, "protocol": "quick"}).task_options == options
