import json

import numpy as np
import pytest
import torch
from evaluate.tone_corpus import make_cut, write_splits

from speechft.corpora.trials import Trial, write_trials
from speechft.encoders import load_encoder
from speechft.errors import CorpusError, TaskError
from speechft.evaluate import evaluate, plan_evaluation
from speechft.evaluate.data.features import FrozenEncoder
from speechft.evaluate.probes import training as head_training
from speechft.evaluate.protocols import verification
from speechft.evaluate.protocols.verification import VerificationTraining, trial_error_rate, trial_scores
from speechft.recipes.cell import read_cell
from speechft.recipes.evaluation import evaluation_recipe
from speechft.tasks import get_task

PITCH = {"ann": 150.0, "bob": 400.0, "cid": 900.0, "dan": 1900.0, "eve": 300.0, "flo": 2500.0, "gus": 550.0}
QUICK = {
    "protocol": "quick",
    "steps": 4,
    "batch_size": 4,
    "accumulate": 2,
    "eval_every": 2,
    "learning_rates": [1e-3, 1e-7],
    "task_options": {"min_seconds": 0.3},
}


def voice(speaker, seconds, generator):
    time = np.arange(round(seconds * 16000)) / 16000
    return 0.2 * sum(np.sin(2 * np.pi * PITCH[speaker] * k * time) / k for k in (1, 2, 3)) + 0.01 * generator.standard_normal(len(time))


def pairs(names):
    """All pairs of recordings `speaker-number`."""
    return [Trial(a.split("-")[0] == b.split("-")[0], a, b) for i, a in enumerate(names) for b in names[i + 1 :]]


def make_cuts(folder, speakers, count, generator):
    return [
        make_cut(folder / "wav", f"{speaker}-{index}", voice(speaker, generator.uniform(0.4, 0.8), generator), speaker=speaker)
        for speaker in speakers
        for index in range(count)
    ]


def make_corpus(folder, dev_trials=True):
    generator = np.random.default_rng(0)
    splits = {"train": make_cuts(folder, ("ann", "bob", "cid"), 4, generator)}
    splits["test"] = make_cuts(folder, ("dan", "eve"), 3, generator)
    splits["dev"] = [*make_cuts(folder, ("flo",), 3, generator), *make_cuts(folder, ("gus",), 2, generator)]
    folder = write_splits(folder, splits)
    trials = pairs([cut.id for cut in splits["test"]])
    if dev_trials:
        trials += pairs([cut.id for cut in splits["dev"]])
    write_trials(folder / "trials.csv", trials)
    return folder


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return make_corpus(tmp_path_factory.mktemp("speakers"))


@pytest.fixture(scope="module")
def corpus_without_dev_trials(tmp_path_factory):
    folder = make_corpus(tmp_path_factory.mktemp("voxceleb"), dev_trials=False)
    (folder / "dev.jsonl.gz").unlink()
    return folder


def training(task, recipe, model_dir, manifests):
    encoder = FrozenEncoder(load_encoder(model_dir), torch.device("cpu"), task.gain)
    (fold,) = verification.load(task, manifests, encoder.encoder, recipe)
    return VerificationTraining(task, recipe, encoder, fold)


@pytest.fixture(scope="module")
def cell_file(model_dir, corpus, tmp_path_factory):
    out = tmp_path_factory.mktemp("cells") / "asv.json"
    assert evaluate(model_dir, "asv", corpus, out, QUICK) == json.loads(out.read_text())
    return out


@pytest.fixture
def whole(cell_file):
    """The cell of an evaluation that was not interrupted."""
    return json.loads(cell_file.read_text())


def test_a_cell_of_verification(whole, cell_file, model_dir, corpus, tmp_path):
    cell = whole
    read_cell(cell_file)
    assert cell["selected_on"] == "dev"
    assert set(cell["hashes"]["manifests"]) == {"train", "dev", "test"}
    assert cell["counts"]["labels"] == 3
    assert [cell["counts"][name]["utterances"] for name in ("train", "dev", "test")] == [12, 5, 6]
    # Train and dev are kept, test is scored once.
    assert cell["counts"]["encoder_passes"] == 12 + 5 + 6
    assert [trial["learning_rate"] for trial in cell["trials"]] == [1e-3, 1e-7]
    assert all(trial["best_step"] in (2, 4) and set(trial["dev"]) == {"ASV"} for trial in cell["trials"])
    best = min(trial["dev"]["ASV"] for trial in cell["trials"])
    assert next(trial["dev"]["ASV"] for trial in cell["trials"] if trial["selected"]) == best
    assert cell["metrics"]["ASV"] == cell["selected"][0]["test"]["ASV"] <= 50.0
    again = evaluate(model_dir, "asv", corpus, tmp_path / "again.json", {**QUICK, "cache_gb": 0.0})
    assert again["values"]["ASV"][0] == pytest.approx(cell["values"]["ASV"][0], abs=5.0)
    assert again["counts"]["encoder_passes"] == 4 * 2 * 4 + 2 * 5 + 6
    for found in (cell, again):
        plan = plan_evaluation(model_dir, "asv", corpus, {**QUICK, "cache_gb": found["recipe"]["cache_gb"]})
        assert (plan.encoder_passes, plan.head_steps) == (pytest.approx(found["counts"]["encoder_passes"], rel=0.2), 4)


def test_without_trials_of_dev_test_selects_and_the_cell_says_so(model_dir, corpus_without_dev_trials, tmp_path):
    cell = evaluate(model_dir, "asv", corpus_without_dev_trials, tmp_path / "asv.json", QUICK)
    assert cell["selected_on"] == "test"
    assert set(cell["hashes"]["manifests"]) == {"train", "test"}
    assert cell["counts"]["dev"]["utterances"] == 0
    assert cell["metrics"]["ASV"] == min(trial["dev"]["ASV"] for trial in cell["trials"])
    plan = plan_evaluation(model_dir, "asv", corpus_without_dev_trials, QUICK)
    assert plan.encoder_passes == cell["counts"]["encoder_passes"] == 12 + 6


def test_an_interrupted_training_goes_on(whole, model_dir, corpus, tmp_path, monkeypatch):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(head_training, "select", interrupted)
        with pytest.raises(KeyboardInterrupt):
            evaluate(model_dir, "asv", corpus, tmp_path / "asv.json", QUICK)
    monkeypatch.setattr(head_training.SeparateProbes, "train_step", interrupted)
    cell = evaluate(model_dir, "asv", corpus, tmp_path / "asv.json", QUICK)
    assert {**cell, "seconds": None} == {**whole, "seconds": None}


def test_crops_are_drawn_anew_in_every_epoch(model_dir, tmp_path):
    generator = np.random.default_rng(0)
    long = make_cut(tmp_path / "wav", "long", voice("ann", 9.0, generator), speaker="ann")
    short = [make_cut(tmp_path / "wav", f"short{index}", voice("bob", 0.5, generator), speaker="bob") for index in range(2)]
    others = make_cuts(tmp_path, ("dan", "eve"), 2, generator)
    corpus = write_splits(tmp_path, {"train": [long, *short], "test": others})
    write_trials(corpus / "trials.csv", pairs([cut.id for cut in others]))
    found = training(get_task("asv", min_seconds=0.3), evaluation_recipe("asv", {**QUICK, "batch_size": 3}), model_dir, corpus)
    assert found.selected_on == "test"
    batches = found.batches(torch.Generator().manual_seed(0))
    starts = set()
    for _ in range(4):
        rows, speakers = next(batches)
        clips = {found.crops[row].cut.id: found.crops[row] for row in rows}
        assert {cut_id: int(speaker) for cut_id, speaker in zip((found.crops[row].cut.id for row in rows), speakers, strict=True)} == {
            "long": 0,
            "short0": 1,
            "short1": 1,
        }
        assert (clips["short0"].start, clips["short0"].num_samples) == (0, 8000)
        assert clips["long"].num_samples == 8 * 16000
        starts.add(clips["long"].start)
        assert len(clips["long"].load()) == 8 * 16000
    assert len(starts) == 4
    # What is heard whole is kept, crops that never come again are not.
    assert len(found.crops) == 2
    before = found.features.encoder.passes
    hidden, lengths = found.features[rows]
    assert found.features.encoder.passes == before + 1
    assert hidden.shape[1] == 3
    assert lengths.tolist() == [found.features.encoder.encoder.frame_count(found.crops[row].num_samples) for row in rows]


def test_the_best_state_is_tested_not_the_last(model_dir, corpus, tmp_path, monkeypatch):
    original = head_training.train_probes

    def trained(bank, *args):
        trials = original(bank, *args)
        # A head that gives all recordings the same embedding.
        trials[0].best_state = {name: torch.zeros_like(value) for name, value in bank.state(0).items()}
        trials[0].dev = {"ASV": -1.0}
        return trials

    monkeypatch.setattr(head_training, "train_probes", trained)
    cell = evaluate(model_dir, "asv", corpus, tmp_path / "asv.json", {**QUICK, "steps": 1})
    assert cell["selected"][0]["learning_rate"] == 1e-3
    assert cell["metrics"]["ASV"] == 50.0


def test_silence_is_removed_and_short_utterances_are_counted(model_dir, tmp_path):
    generator = np.random.default_rng(0)
    quiet = np.concatenate([voice("ann", 0.25, generator), np.zeros(16000)])
    # Above the threshold, but no longer after -3 dB.
    faint = 1.2e-3 * np.tile([1.0, -1.0], 4000)
    padded = np.concatenate([faint, voice("bob", 0.6, generator), faint])
    train = [
        make_cut(tmp_path / "wav", "quiet", quiet, speaker="ann"),
        make_cut(tmp_path / "wav", "padded", padded, speaker="bob"),
        *make_cuts(tmp_path, ("ann", "cid"), 2, generator),
    ]
    others = make_cuts(tmp_path, ("dan", "eve"), 2, generator)
    spare = make_cut(tmp_path / "wav", "spare", voice("dan", 0.4, generator))
    corpus = write_splits(tmp_path, {"train": train, "test": [*others, spare]})
    write_trials(corpus / "trials.csv", pairs([cut.id for cut in others]))
    encoder = load_encoder(model_dir)
    (fold,) = verification.load(get_task("asv", min_seconds=0.3), corpus, encoder, evaluation_recipe("asv", QUICK))
    assert [cut.id for cut in fold.splits["train"].cuts] == ["padded", "ann-0", "ann-1", "cid-0", "cid-1"]
    assert fold.splits["train"].dropped == {"not longer than 0.3 s without silence": 1}
    assert fold.splits["train"].clips[0].num_samples == pytest.approx(0.6 * 16000, abs=320)
    heard = fold.splits["train"].clips[0].load()
    assert len(heard) == fold.splits["train"].clips[0].num_samples
    assert heard[500:1000].abs().max() > 0.1
    assert [cut.id for cut in fold.splits["test"].cuts] == [cut.id for cut in others]
    assert fold.splits["test"].dropped == {"in no trial": 1}
    with pytest.raises(TaskError, match="train split: no utterance is longer than 2 s"):
        verification.load(get_task("asv"), corpus, encoder, evaluation_recipe("asv"))


def test_wrong_trials(model_dir, tmp_path):
    generator = np.random.default_rng(0)
    train = make_cuts(tmp_path, ("ann", "bob"), 2, generator)
    silent = make_cut(tmp_path / "wav", "silent-0", np.zeros(16000))
    test = [*make_cuts(tmp_path, ("dan", "eve"), 2, generator), silent]
    corpus = write_splits(tmp_path, {"train": train, "test": test})
    out = tmp_path / "asv.json"
    good = pairs([cut.id for cut in test[:4]])
    for trials, error, message in [
        ([*good, Trial(True, "dan-0", "nobody")], CorpusError, r"(?s)1 unknown id\(s\).*nobody: no recording"),
        ([trial for trial in good if trial.same], TaskError, "2 of 2 trials of test have label 1"),
        ([*good, Trial(False, "dan-0", "silent-0")], TaskError, r"(?s)shorter than one frame.*silent-0: 0 samples"),
    ]:
        write_trials(corpus / "trials.csv", trials)
        with pytest.raises(error, match=message):
            evaluate(model_dir, "asv", corpus, out, QUICK)
    (corpus / "trials.csv").unlink()
    with pytest.raises(CorpusError, match="list of trials"):
        evaluate(model_dir, "asv", corpus, out, QUICK)
    assert not out.exists()


def test_trials_are_scored_by_cosine(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    names = [f"r{index}" for index in range(9)]
    embeddings = {name: torch.nn.functional.normalize(torch.randn(5, generator=generator), dim=0) for name in names}
    trials = [Trial(index % 3 == 0, names[index % 9], names[(2 * index + 1) % 9]) for index in range(40)]
    expected = [float(embeddings[trial.enrolment] @ embeddings[trial.test]) for trial in trials]
    assert trial_scores(trials, embeddings).tolist() == pytest.approx(expected, abs=1e-6)
    monkeypatch.setattr(verification, "ENROLMENTS_AT_A_TIME", 2)
    assert trial_scores(trials, embeddings).tolist() == pytest.approx(expected, abs=1e-6)
    assert 0 < trial_error_rate(trials, embeddings) < 1
    embeddings["r3"] = embeddings["r3"] * float("nan")
    assert trial_error_rate(trials, embeddings) == 1.0
