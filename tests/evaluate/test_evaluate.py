import json
import subprocess
import sys
from collections import Counter
from itertools import chain

import numpy as np
import pytest
import torch
from evaluate.tone_corpus import make_cut, make_splits, write_splits

from speechft.encoders import load_encoder
from speechft.errors import CheckpointError, ConfigError, CorpusError, SpeechFTError, TableError, TaskError, TrainingError
from speechft.evaluate import evaluate
from speechft.evaluate.data.features import FrameFeatures, FrozenEncoder
from speechft.evaluate.data.splits import load_splits
from speechft.evaluate.probes import training
from speechft.evaluate.probes.bank import ProbeBank, Setting
from speechft.evaluate.probes.batches import dev_rows
from speechft.evaluate.probes.checkpoints import TrialState
from speechft.evaluate.probes.training import select, train_probes
from speechft.evaluate.protocols.default import SplitTraining
from speechft.recipes.cell import read_cell
from speechft.recipes.evaluation import evaluation_recipe
from speechft.tasks import get_task
from speechft.tasks.base import LabelSet

QUICK = {
    "ks": {"protocol": "quick", "steps": 60, "batch_size": 8, "eval_every": 20, "learning_rates": [1e-2, 1e-5]},
    "sid": {"protocol": "quick", "steps": 60, "batch_size": 4, "accumulate": 2, "eval_every": 20, "learning_rates": [1e-2, 1e-3]},
    "er": {"protocol": "quick", "steps": 60, "batch_size": 4, "accumulate": 2, "eval_every": 20, "learning_rates": [1e-2, 1e-3]},
    "pr": {"protocol": "quick", "steps": 20, "batch_size": 4, "accumulate": 2, "eval_every": 10, "learning_rates": [1e-1, 1e-3]},
}


def without_times(cell):
    return {key: value for key, value in cell.items() if key != "seconds"}


@pytest.mark.parametrize("task", ["ks", "sid", "er", "pr"])
def test_a_cell_holds_everything(task, model_dir, manifests, tmp_path):
    torch.manual_seed(3)
    expected_random = torch.rand(2)
    torch.manual_seed(3)
    out = tmp_path / f"{task}.json"
    cell = evaluate(model_dir, task, manifests, out, QUICK[task], model_name="hubert/none/pretrained")
    assert torch.equal(torch.rand(2), expected_random), "the global random state was changed"
    assert json.loads(out.read_text()) == cell
    read_cell(out)
    key = get_task(task).selection_metric.key
    assert list(cell["metrics"]) == [key]
    assert cell["values"][key] == [cell["metrics"][key]]
    assert cell["model"]["encoder"] == "hubert"
    assert cell["model"]["method"] == "pretrained"
    assert [trial["learning_rate"] for trial in cell["trials"]] == QUICK[task]["learning_rates"]
    assert sum(trial["selected"] for trial in cell["trials"]) == 1
    assert cell["counts"]["train"]["utterances"] == 18
    assert cell["counts"]["encoder_passes"] == 30
    assert cell["counts"]["labels"] == {"ks": 3, "sid": 2, "er": 3, "pr": 74}[task]
    hidden, states = load_encoder(model_dir).hidden_size, load_encoder(model_dir).num_states
    assert cell["counts"]["trainable_parameters"] == states + (hidden + 1) * 256 + 257 * cell["counts"]["labels"]
    assert cell["recipe"]["steps"] == QUICK[task]["steps"]
    assert set(cell["hashes"]["manifests"]) == {"train", "dev", "test"}
    # Nothing is left beside the cell but the lock.
    assert [path.suffix for path in (tmp_path / ".work").iterdir()] == [".lock"]


def test_tones_are_recognized(model_dir, manifests, tmp_path):
    ks = evaluate(model_dir, "ks", manifests, tmp_path / "ks.json", QUICK["ks"])
    sid = evaluate(model_dir, "sid", manifests, tmp_path / "sid.json", QUICK["sid"])
    assert ks["metrics"]["KS"] == 100.0
    assert sid["metrics"]["SID"] == 100.0
    chosen, other = ks["trials"]
    assert chosen["selected"]
    assert chosen["dev"]["KS"] > other["dev"]["KS"]


@pytest.mark.parametrize("task", ["ks", "pr"])
def test_same_seed_same_cell(task, model_dir, manifests, tmp_path):
    recipe = {**QUICK[task], "seeds": [1, 2]}
    first = evaluate(model_dir, task, manifests, tmp_path / "a.json", recipe)
    second = evaluate(model_dir, task, manifests, tmp_path / "b.json", recipe)
    assert without_times(first) == without_times(second)
    assert len(first["trials"]) == 4
    assert len(next(iter(first["values"].values()))) == 2
    other = evaluate(model_dir, task, manifests, tmp_path / "c.json", {**recipe, "seeds": [3, 2]})
    assert other["selected"][1] == first["selected"][1]


def test_seeds_train_different_heads(model_dir, manifests, tmp_path):
    recipe = {**QUICK["pr"], "steps": 4, "eval_every": 1, "learning_rates": [1e-1], "seeds": [1, 2, 3]}
    cell = evaluate(model_dir, "pr", manifests, tmp_path / "a.json", recipe)
    assert len({json.dumps(trial["dev"]) + str(trial["best_step"]) for trial in cell["trials"]}) > 1


def test_an_interrupted_evaluation_reuses_its_features(model_dir, manifests, tmp_path, monkeypatch, count_passes):
    expected = evaluate(model_dir, "ks", manifests, tmp_path / "whole.json", QUICK["ks"])
    count_passes.clear()

    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(training, "train_probes", interrupted)
        with pytest.raises(KeyboardInterrupt):
            evaluate(model_dir, "ks", manifests, tmp_path / "ks.json", QUICK["ks"])
    assert not (tmp_path / "ks.json").exists()
    assert count_passes["clips"] == 30
    # Of one split the features were damaged: these are made again.
    (damaged,) = (tmp_path / ".work").glob("*/test-*.safetensors")
    damaged.write_bytes(damaged.read_bytes()[:100])
    cell = evaluate(model_dir, "ks", manifests, tmp_path / "ks.json", QUICK["ks"])
    assert count_passes["clips"] == 30 + 6
    assert without_times(cell) == without_times(expected)


def test_kept_features_serve_another_recipe_but_not_another_task(model_dir, manifests, tmp_path, count_passes):
    evaluate(model_dir, "ks", manifests, tmp_path / "a.json", QUICK["ks"], work_dir=tmp_path / "work", keep_features=True)
    evaluate(model_dir, "ks", manifests, tmp_path / "b.json", {**QUICK["ks"], "steps": 10}, work_dir=tmp_path / "work", keep_features=True)
    assert count_passes["clips"] == 30
    # SID has no gain of -3 dB.
    evaluate(model_dir, "sid", manifests, tmp_path / "c.json", QUICK["sid"], work_dir=tmp_path / "work")
    assert count_passes["clips"] == 60


def test_the_budget_for_frames_changes_the_cost_only(model_dir, manifests, tmp_path):
    # A rate that does not amplify rounding.
    recipe = {**QUICK["pr"], "learning_rates": [1e-4]}
    kept = evaluate(model_dir, "pr", manifests, tmp_path / "a.json", recipe)
    recomputed = evaluate(model_dir, "pr", manifests, tmp_path / "b.json", {**recipe, "cache_gb": 0.0})
    assert kept["counts"]["encoder_passes"] == 30
    # 20 steps x 2 batches x 4 utterances, two evaluations on dev, test.
    assert recomputed["counts"]["encoder_passes"] == 20 * 8 + 2 * 6 + 6
    assert recomputed["values"]["PR"][0] == pytest.approx(kept["values"]["PR"][0], abs=1.0)


def test_kept_and_recomputed_frames_are_equal(model_dir, manifests):
    encoder = FrozenEncoder(load_encoder(model_dir), torch.device("cpu"))
    _, splits = load_splits(get_task("pr"), manifests, encoder.encoder, 1)
    clips = splits["train"].clips
    some, none = FrameFeatures(encoder, clips), FrameFeatures(encoder, clips)
    left = some.keep(clips[0].num_samples * 40, "train")
    assert left >= 0
    rows = [3, 0, 17, 3, 9]
    (mixed, mixed_lengths), (fresh, fresh_lengths) = some[rows], none[rows]
    assert mixed_lengths.tolist() == fresh_lengths.tolist() == [encoder.encoder.frame_count(clips[row].num_samples) for row in rows]
    torch.testing.assert_close(mixed, fresh, atol=1e-4, rtol=0)


def test_balanced_dev_draw_is_superb_only(model_dir, tmp_path):
    splits = make_splits(tmp_path, {"train": 6, "dev": 30, "test": 3})
    splits["dev"] = [cut for index, cut in enumerate(splits["dev"]) if index % 3 == 0 or index < 3]
    manifests = write_splits(tmp_path, splits)
    task = get_task("ks")
    labels, found = load_splits(task, manifests, load_encoder(model_dir), 1)
    dev = found["dev"]
    quick = Setting(task, labels, evaluation_recipe("ks", QUICK["ks"]), torch.device("cpu"))
    superb = Setting(task, labels, evaluation_recipe("ks"), torch.device("cpu"))
    assert [clip for clip, _ in dev_rows(quick, dev, 1)] == list(range(len(dev)))
    drawn = [[int(target) for _, target in dev_rows(superb, dev, seed)] for seed in range(100)]
    assert [clip for clip, _ in dev_rows(superb, dev, 5)] == [clip for clip, _ in dev_rows(superb, dev, 5)]
    assert {len(draw) for draw in drawn} == {len(dev)}
    counts = Counter(chain.from_iterable(drawn))
    assert all(count / sum(counts.values()) == pytest.approx(1 / 3, abs=0.06) for count in counts.values())


def test_selection():
    accuracy, per = get_task("ks").selection_metric, get_task("pr").selection_metric
    trials = [
        TrialState(1e-1, {"KS": 0.5, "PR": 0.5}, 5, {}),
        TrialState(1e-2, {"KS": 0.9, "PR": 0.9}, 5, {}),
        TrialState(1e-3, {"KS": 0.9, "PR": 0.9}, 9, {}),
    ]
    assert select(trials, accuracy, 0) == 2
    assert select(trials, per, 0) == 0
    assert select([trials[0], TrialState(1e-4, diverged=True)], accuracy, 0) == 0
    with pytest.raises(TrainingError, match=r"0.1, 0.01; seed 4"):
        select([TrialState(1e-1, diverged=True), TrialState(1e-2, diverged=True)], accuracy, 4)


class ScriptedBank(ProbeBank):
    """Probes whose dev scores are given, and whose state is the number of steps they made."""

    frame_level = False

    def __init__(self, setting, scores):
        super().__init__(setting)
        self.script, self.steps = iter(scores), 0

    def train_step(self, features, batches):
        self.steps += 1
        return [0.0]

    def scores(self, features, batches, probes):
        return [next(self.script)]

    def state(self, index):
        return {"steps": torch.tensor(self.steps)}

    def load_state(self, index, state):
        raise AssertionError

    def training_state(self):
        raise AssertionError

    def load_training_state(self, state):
        raise AssertionError

    def _statistics(self, features, batch, probes):
        raise AssertionError


@pytest.mark.parametrize(
    ("task", "scores", "best_step"),
    [("ks", [0.0, 0.5, 0.5, 0.4], 4), ("pr", [1.5, 0.9, 0.9, 1.0], 4), ("ks", [0.0] * 4, 2), ("ks", [0.1, 0.2, 0.3, 0.4], 7)],
)
def test_the_first_of_the_best_evaluations_is_kept(task, scores, best_step, model_dir, manifests):
    recipe = evaluation_recipe(task, {"protocol": "quick", "steps": 7, "eval_every": 2, "learning_rates": [0.1]})
    labels, splits = load_splits(get_task(task), manifests, load_encoder(model_dir), 1)
    key = get_task(task).selection_metric.key
    bank = ScriptedBank(Setting(get_task(task), labels, recipe, torch.device("cpu")), [{key: score} for score in scores])
    heads = SplitTraining(get_task(task), recipe, splits, dict.fromkeys(splits))
    (trial,) = train_probes(bank, heads, seed=0)
    assert bank.steps == 7
    # Steps 2, 4, 6 and the last one were evaluated; only a strictly better one replaces an earlier one.
    assert (trial.best_step, trial.best_state["steps"].item(), trial.dev) == (best_step, best_step, {key: scores[(best_step - 1) // 2]})


def test_the_best_state_is_tested_not_the_last(model_dir, manifests, tmp_path, monkeypatch):
    def trained(bank, *args):
        # A probe that always says "high", the first class, which a third of the utterances are.
        states = [{name: torch.zeros_like(value) for name, value in bank.state(index).items()} for index in range(2)]
        states[1]["head.classifier.bias"][0] = 1.0
        original = train_probes(bank, *args)
        return [TrialState(trial.learning_rate, {"KS": 0.1 * i}, 1, states[i]) for i, trial in enumerate(original)]

    monkeypatch.setattr(training, "train_probes", trained)
    cell = evaluate(model_dir, "ks", manifests, tmp_path / "a.json", {**QUICK["ks"], "learning_rates": [1e-3, 1e-2]})
    (chosen,) = cell["selected"]
    assert (chosen["seed"], chosen["learning_rate"], chosen["best_step"], chosen["fold"]) == (1337, 1e-2, 1, None)
    assert chosen["test"] == {"KS": pytest.approx(100 / 3)}


def test_diverged_rates_are_recorded(model_dir, manifests, tmp_path, monkeypatch):
    task = get_task("pr")
    calls = Counter()
    original = task.loss

    def loss(logits, lengths, targets):
        calls["all"] += 1
        # Two rates and two batches a step: the first rate breaks at its third step.
        broken = calls["all"] > 8 and calls["all"] % 2 == 1 and calls["all"] <= 10
        return original(logits, lengths, targets) * (float("nan") if broken else 1.0)

    monkeypatch.setattr(task, "loss", loss)
    recipe = {**QUICK["pr"], "eval_every": 1, "steps": 6, "learning_rates": [1e-1, 1e-3]}
    cell = evaluate(model_dir, task, manifests, tmp_path / "a.json", recipe)
    assert [trial["diverged"] for trial in cell["trials"]] == [True, False]
    assert cell["trials"][0]["best_step"] <= 2

    monkeypatch.setattr(task, "loss", lambda *args: original(*args) * float("inf"))
    with pytest.raises(TrainingError, match="every learning rate"):
        evaluate(model_dir, task, manifests, tmp_path / "b.json", recipe)
    assert not (tmp_path / "b.json").exists()


def test_short_utterances(model_dir, tmp_path):
    splits = make_splits(tmp_path, {"train": 6, "dev": 3, "test": 3})
    short = make_cut(tmp_path / "wav", "short", np.zeros(300))
    manifests = write_splits(tmp_path / "train", {**splits, "train": [short, *splits["train"]]})
    cell = evaluate(model_dir, "ks", manifests, tmp_path / "a.json", QUICK["ks"])
    assert cell["counts"]["train"]["utterances"] == 6
    assert cell["counts"]["train"]["dropped"] == {"shorter than one frame": 1}
    manifests = write_splits(tmp_path / "dev", {**splits, "dev": [short, *splits["dev"]]})
    with pytest.raises(TaskError, match=r"(?s)dev split: 1 recording.*short: 300 samples"):
        evaluate(model_dir, "ks", manifests, tmp_path / "b.json", QUICK["ks"])


def test_targets_without_an_alignment_are_counted(model_dir, tmp_path):
    splits = make_splits(tmp_path, {"train": 6, "dev": 3, "test": 3})
    splits["train"].append(make_cut(tmp_path / "wav", "fast", 0.1 * np.ones(1600), text="seven eleven"))
    cell = evaluate(model_dir, "pr", write_splits(tmp_path, splits), tmp_path / "a.json", QUICK["pr"])
    assert cell["counts"]["train"]["utterances"] == 7
    assert cell["counts"]["train"]["dropped"] == {"target longer than its frames (loss 0)": 1}


@pytest.mark.parametrize(
    ("task", "changes", "message"),
    [
        ("ks", {"label": "other"}, r"class 'other' is not among the 3 classes of the training data \(high, low, middle\)"),
        ("ks", {"label": None}, "strange: has no label"),
        ("sid", {"speaker": "zoe"}, "strange: class 'zoe'"),
        ("pr", {"text": "one qwrtz"}, r"(?s)1 word\(s\) are in none of the lexicons cmudict \(dev 1\).*QWRTZ: strange"),
        ("pr", {"text": ""}, "strange: has an empty transcript"),
    ],
)
def test_targets_that_can_not_be(task, changes, message, model_dir, tmp_path):
    splits = make_splits(tmp_path, {"train": 6, "dev": 3, "test": 3})
    splits["dev"].append(make_cut(tmp_path / "wav", "strange", 0.1 * np.ones(8000), **changes))
    with pytest.raises(TaskError, match=message):
        evaluate(model_dir, task, write_splits(tmp_path, splits), tmp_path / "a.json", QUICK[task])
    assert not list(tmp_path.glob("*.json"))


def test_words_without_pronunciation_are_told_of_all_splits_before_features(model_dir, tmp_path, count_passes):
    splits = make_splits(tmp_path, {"train": 6, "dev": 3, "test": 3})
    for split, word in (("train", "qwrtz"), ("dev", "xyzzyq"), ("test", "qwrtz")):
        splits[split].append(make_cut(tmp_path / "wav", f"strange-{split}", 0.1 * np.ones(8000), text=f"one {word}"))
    with pytest.raises(TaskError) as caught:
        evaluate(model_dir, "pr", write_splits(tmp_path, splits), tmp_path / "a.json", QUICK["pr"])
    heading, *lines = str(caught.value).splitlines()
    assert heading.startswith("pr: 2 word(s) are in none of the lexicons cmudict (train 1, dev 1, test 1). ")
    assert lines == ["  QWRTZ: strange-train, strange-test", "  XYZZYQ: strange-dev"]
    assert not count_passes
    assert not list(tmp_path.glob("*.json"))


def test_wrong_arguments(model_dir, manifests, tmp_path):
    out = tmp_path / "a.json"
    with pytest.raises(ConfigError, match="encoder/finetuning/method"):
        evaluate(model_dir, "ks", manifests, out, QUICK["ks"], model_name="hubert")
    with pytest.raises(ConfigError, match="stepz"):
        evaluate(model_dir, "ks", manifests, out, {"stepz": 1})
    with pytest.raises(ConfigError, match="protocol: quick"):
        evaluate(model_dir, "ks", manifests, out, {"steps": 1})
    with pytest.raises(ConfigError, match="of task 'ks', not 'pr'"):
        evaluate(model_dir, "pr", manifests, out, evaluation_recipe("ks"))
    with pytest.raises(ConfigError, match="brings its options"):
        evaluate(model_dir, get_task("ks"), manifests, out, {**QUICK["ks"], "task_options": {"classes": "superb"}})
    with pytest.raises(CheckpointError):
        evaluate(tmp_path / "none", "ks", manifests, out, QUICK["ks"])
    with pytest.raises(CorpusError):
        evaluate(model_dir, "ks", tmp_path / "none", out, QUICK["ks"])
    assert not out.exists()


def test_damaged_encoders_are_found(model_dir, manifests, tmp_path):
    encoder = load_encoder(model_dir)
    next(encoder.backbone.encoder.layers[0].parameters()).data.fill_(float("nan"))
    _, splits = load_splits(get_task("ks"), manifests, encoder, 1)
    with pytest.raises(CheckpointError, match="NaN or Inf features.*train000"):
        FrozenEncoder(encoder, torch.device("cpu"))(splits["train"].clips[:2])


def test_two_evaluations_do_not_share_a_work_folder(model_dir, manifests, tmp_path, monkeypatch):
    def inner(*args, **kwargs):
        with pytest.raises(SpeechFTError, match="computing the same features"):
            evaluate(model_dir, "ks", manifests, tmp_path / "b.json", QUICK["ks"])
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "train_probes", inner)
    with pytest.raises(KeyboardInterrupt):
        evaluate(model_dir, "ks", manifests, tmp_path / "a.json", QUICK["ks"])


def test_gain_is_applied(model_dir, manifests):
    _, splits = load_splits(get_task("ks"), manifests, load_encoder(model_dir), 1)
    heard = []

    class Listening(FrozenEncoder):
        @property
        def encoder(self):
            return self._encoder

        @encoder.setter
        def encoder(self, value):
            self._encoder = value
            original = value.encode
            value.encode = lambda waveforms: (heard.extend(waveforms), original(waveforms))[1]

    Listening(load_encoder(model_dir), torch.device("cpu"), gain=0.5)(splits["dev"].clips[:1])
    torch.testing.assert_close(heard[0], 0.5 * splits["dev"].clips[0].load())


def test_cells_are_checked(model_dir, manifests, tmp_path):
    out = tmp_path / "a.json"
    cell = evaluate(model_dir, "ks", manifests, out, QUICK["ks"])
    for change in ({"schema": 2}, {"metrics": {"KS": 1.0}}, {"trials": []}, {"protocol": "other"}, {"unknown": 1}):
        out.write_text(json.dumps({**cell, **change}))
        with pytest.raises(TableError, match="a.json"):
            read_cell(out)
    out.write_text("{")
    with pytest.raises(TableError, match="not valid JSON"):
        read_cell(out)
    with pytest.raises(TableError, match="no such file"):
        read_cell(tmp_path / "none.json")


def test_reading_cells_needs_no_torch():
    code = "import sys, speechft.evaluate, speechft.recipes.cell; sys.exit('torch' in sys.modules or 'lhotse' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_labels_enter_the_hash(model_dir, manifests, tmp_path):
    sorted_classes = evaluate(model_dir, "ks", manifests, tmp_path / "a.json", QUICK["ks"])
    given = evaluate(
        model_dir, "ks", manifests, tmp_path / "b.json", {**QUICK["ks"], "task_options": {"classes": ["low", "middle", "high"]}}
    )
    assert sorted_classes["hashes"]["labels"] != given["hashes"]["labels"]
    assert LabelSet(("high", "low", "middle")).to_json()["symbols"] == ["high", "low", "middle"]
