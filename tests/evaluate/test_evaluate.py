"""How heads are trained, chosen and tested, whatever the task."""

import math
from collections import Counter
from itertools import chain

import pytest
import torch
from evaluate.corpora import QUICK

from speechft.encoders import load_encoder
from speechft.errors import CheckpointError, ConfigError, CorpusError, SpeechFTError, TrainingError
from speechft.evaluate import evaluate, plan_evaluation
from speechft.evaluate.data.clips import Clip
from speechft.evaluate.data.features import FrameFeatures, FrozenEncoder
from speechft.evaluate.data.splits import Split
from speechft.evaluate.probes import training
from speechft.evaluate.probes.bank import ProbeBank, Setting
from speechft.evaluate.probes.batches import dev_rows
from speechft.evaluate.probes.checkpoints import TrialState
from speechft.evaluate.probes.training import select, train_probes
from speechft.evaluate.protocols.default import SplitTraining
from speechft.recipes.evaluation import evaluation_recipe
from speechft.tasks import get_task

CPU = torch.device("cpu")


def test_kept_features_serve_another_recipe_but_not_another_task(model_dir, manifests, tmp_path, count_passes):
    kept = {"work_dir": tmp_path / "work", "keep_features": True}
    # SID has no gain of -3 dB.
    for task, changes, passes in (("ks", {}, 30), ("ks", {"steps": 10}, 30), ("sid", {}, 60)):
        evaluate(model_dir, task, manifests, tmp_path / "a.json", {**QUICK[task], **changes}, **kept)
        assert count_passes["clips"] == passes


def test_kept_and_recomputed_frames_are_equal(prepare):
    made = prepare("pr")
    encoder, clips = made.encoder, made.train.clips
    some, none = FrameFeatures(encoder, clips), FrameFeatures(encoder, clips)
    assert some.keep(clips[0].num_samples * 40, "train") >= 0
    rows = [3, 0, 17, 3, 9]
    (mixed, mixed_lengths), (fresh, fresh_lengths) = some[rows], none[rows]
    assert mixed_lengths.tolist() == fresh_lengths.tolist() == [encoder.encoder.frame_count(clips[row].num_samples) for row in rows]
    torch.testing.assert_close(mixed, fresh, atol=1e-4, rtol=0)


def test_balanced_dev_draw_is_superb_only():
    targets = tuple(map(torch.tensor, [0] * 10 + [1, 2]))
    dev = Split("dev", targets, targets, [Clip(None, 0, 1)] * 12, tuple(range(13)), {}, "")
    quick, superb = (Setting(get_task("ks"), None, evaluation_recipe("ks", changes), CPU) for changes in ({"protocol": "quick"}, {}))
    assert [clip for clip, _ in dev_rows(quick, dev, 1)] == list(range(12))
    drawn = [[int(target) for _, target in dev_rows(superb, dev, seed)] for seed in range(100)]
    assert [clip for clip, _ in dev_rows(superb, dev, 5)] == [clip for clip, _ in dev_rows(superb, dev, 5)]
    assert {len(draw) for draw in drawn} == {12}
    counts = Counter(chain.from_iterable(drawn))
    assert all(count / sum(counts.values()) == pytest.approx(1 / 3, abs=0.06) for count in counts.values())


KS, PR = (get_task(task).selection_metric for task in ("ks", "pr"))


@pytest.mark.parametrize(("metric", "scores", "chosen"), [(KS, [0.5, 0.9, 0.9], 2), (PR, [0.5, 0.9, 0.9], 0), (KS, [0.5, None], 0)])
def test_selection(metric, scores, chosen):
    trials = [
        TrialState(10.0**-i, diverged=True) if score is None else TrialState(10.0**-i, {metric.key: score}, 5, {})
        for i, score in enumerate(scores)
    ]
    assert select(trials, metric, 0) == chosen


def test_nothing_to_select_from():
    with pytest.raises(TrainingError, match=r"0.1, 0.01; seed 4"):
        select([TrialState(1e-1, diverged=True), TrialState(1e-2, diverged=True)], KS, 4)


class ScriptedBank(ProbeBank):
    """Probes whose dev scores are given, and whose state is the number of steps they made."""

    frame_level = False
    load_state = training_state = load_training_state = logits = None

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


@pytest.mark.parametrize(
    ("task", "scores", "best_step"),
    [
        ("ks", [0.0, 0.5, 0.5, 0.4], 4),
        ("pr", [1.5, 0.9, 0.9, 1.0], 4),
        ("ks", [0.0] * 4, 2),
        ("ks", [0.1, 0.2, 0.3, 0.4], 7),
        ("ks", [math.nan, 0.5, math.nan, 0.4], 4),
        ("pr", [math.inf, 1.5, 0.9, math.nan], 6),
    ],
)
def test_the_first_of_the_best_evaluations_is_kept(task, scores, best_step, prepare):
    made = prepare(task, steps=7, eval_every=2, learning_rates=[0.1])
    key = get_task(task).selection_metric.key
    bank = ScriptedBank(made.setting, [{key: score} for score in scores])
    (trial,) = train_probes(bank, SplitTraining(made.setting.task, made.setting.recipe, made.splits, dict.fromkeys(made.splits)), seed=0)
    assert bank.steps == 7
    # Steps 2, 4, 6 and the last one were evaluated; only a strictly better one replaces an earlier one, and one that is a number.
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


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"recipe": {"stepz": 1}}, ConfigError, "stepz"),
        ({"model_dir": "none"}, CheckpointError, "none"),
        ({"manifests": "none"}, CorpusError, "none"),
        ({"recipe": evaluation_recipe("pr")}, ConfigError, "for task 'pr', not 'ks'"),
        ({"model_name": "hubert"}, ConfigError, "encoder/finetuning/method"),
        (
            {"task": get_task("ks"), "recipe": {**QUICK["ks"], "task_options": {"classes": "superb"}}},
            ConfigError,
            "an object with its own options",
        ),
    ],
)
def test_wrong_arguments(changes, error, message, model_dir, manifests, tmp_path):
    arguments = {"model_dir": model_dir, "task": "ks", "manifests": manifests, "recipe": QUICK["ks"]} | changes
    with pytest.raises(error, match=message):
        evaluate(**arguments, out_json=tmp_path / "a.json")
    assert not (tmp_path / "a.json").exists()
    # Models, corpora and recipes are refused by estimates too.
    if message in ("stepz", "none"):
        with pytest.raises(error, match=message):
            plan_evaluation(**arguments)


def test_damaged_encoders_are_found(prepare):
    made = prepare("ks")
    next(made.encoder.encoder.backbone.encoder.layers[0].parameters()).data.fill_(float("nan"))
    with pytest.raises(CheckpointError, match="NaN or Inf features.*train000"):
        made.encoder(made.train.clips[:2])


def test_two_evaluations_do_not_share_a_work_folder(model_dir, manifests, tmp_path, monkeypatch):
    def inner(*args, **kwargs):
        with pytest.raises(SpeechFTError, match="computing the same features"):
            evaluate(model_dir, "ks", manifests, tmp_path / "b.json", QUICK["ks"])
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "train_probes", inner)
    with pytest.raises(KeyboardInterrupt):
        evaluate(model_dir, "ks", manifests, tmp_path / "a.json", QUICK["ks"])


def test_gain_is_applied(prepare, model_dir, monkeypatch):
    clip, encoder, heard = prepare("ks").train.clips[0], load_encoder(model_dir), []
    original = encoder.encode
    monkeypatch.setattr(encoder, "encode", lambda waveforms: (heard.extend(waveforms), original(waveforms))[1])
    FrozenEncoder(encoder, CPU, gain=0.5)([clip])
    torch.testing.assert_close(heard[0], 0.5 * clip.load())
