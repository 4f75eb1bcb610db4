import numpy as np
import pytest
import torch
from evaluate.corpora import QUICK, speakers, spoken, trials_of, voice, write_speakers
from evaluate.tone_corpus import make_cut, write_splits

from speechft.corpora.trials import Trial, write_trials
from speechft.encoders import load_encoder
from speechft.errors import CorpusError, TaskError
from speechft.evaluate import evaluate, plan_evaluation
from speechft.evaluate.data.features import FrozenEncoder
from speechft.evaluate.protocols import verification
from speechft.evaluate.protocols.verification import VerificationTraining, trial_error_rate, trial_scores
from speechft.recipes.evaluation import evaluation_recipe
from speechft.tasks import get_task


@pytest.fixture
def generator():
    return np.random.default_rng(0)


def test_without_trials_of_dev_test_selects_and_the_cell_says_so(model_dir, tmp_path):
    corpus = speakers(tmp_path)
    trials = corpus / "trials.csv"
    trials.write_text("".join(line for line in trials.read_text().splitlines(True) if "flo" not in line and "gus" not in line))
    (corpus / "dev.jsonl.gz").unlink()
    cell = evaluate(model_dir, "asv", corpus, tmp_path / "asv.json", QUICK["asv"])
    assert cell["selected_on"] == "test"
    assert set(cell["hashes"]["manifests"]) == {"train", "test"}
    assert cell["counts"]["dev"]["utterances"] == 0
    assert cell["metrics"]["ASV"] == min(trial["dev"]["ASV"] for trial in cell["trials"])
    assert plan_evaluation(model_dir, "asv", corpus, QUICK["asv"]).encoder_passes == cell["counts"]["encoder_passes"] == 12 + 6


def test_crops_are_drawn_anew_in_every_epoch(model_dir, tmp_path, generator):
    long = make_cut(tmp_path / "wav", "long", voice("ann", 9.0, generator), speaker="ann")
    short = [make_cut(tmp_path / "wav", f"short{index}", voice("bob", 0.5, generator), speaker="bob") for index in range(2)]
    corpus = write_speakers(tmp_path, train=[long, *short], test=spoken(tmp_path, ("dan", "eve"), 2, generator))
    task, recipe = get_task("asv", min_seconds=0.3), evaluation_recipe("asv", {**QUICK["asv"], "batch_size": 3})
    encoder = FrozenEncoder(load_encoder(model_dir), torch.device("cpu"), task.gain)
    (fold,) = verification.load(task, corpus, encoder.encoder)
    training = VerificationTraining(task, recipe, encoder, fold)
    assert training.selected_on == "test"
    batches, starts = training.batches(torch.Generator().manual_seed(0)), set()
    for _ in range(4):
        rows, targets = next(batches)
        clips = {training.crops[row].cut.id: training.crops[row] for row in rows}
        assert dict(zip(clips, map(int, targets), strict=True)) == {"long": 0, "short0": 1, "short1": 1}
        assert (clips["short0"].start, clips["short0"].num_samples) == (0, 8000)
        assert clips["long"].num_samples == len(clips["long"].load()) == 8 * 16000
        starts.add(clips["long"].start)
    assert len(starts) == 4
    # What is heard whole is kept, crops that never come again are not.
    assert len(training.crops) == 2
    before = encoder.passes
    hidden, lengths = training.features[rows]
    assert encoder.passes == before + 1
    assert hidden.shape[1] == 3
    assert lengths.tolist() == [encoder.encoder.frame_count(training.crops[row].num_samples) for row in rows]


def test_silence_is_removed_and_short_utterances_are_counted(model_dir, tmp_path, generator):
    # `faint` is above the threshold, but no longer after -3 dB.
    faint, folder = 1.2e-3 * np.tile([1.0, -1.0], 4000), tmp_path / "wav"
    train = [
        make_cut(folder, "quiet", np.concatenate([voice("ann", 0.25, generator), np.zeros(16000)]), speaker="ann"),
        make_cut(folder, "padded", np.concatenate([faint, voice("bob", 0.6, generator), faint]), speaker="bob"),
        *spoken(tmp_path, ("ann", "cid"), 2, generator),
    ]
    others = spoken(tmp_path, ("dan", "eve"), 2, generator)
    corpus = write_splits(tmp_path, {"train": train, "test": [*others, make_cut(folder, "spare", voice("dan", 0.4, generator))]})
    write_trials(corpus / "trials.csv", trials_of(others))
    encoder = load_encoder(model_dir)
    (fold,) = verification.load(get_task("asv", min_seconds=0.3), corpus, encoder)
    found = fold.splits["train"]
    assert [cut.id for cut in found.cuts] == ["padded", "ann-0", "ann-1", "cid-0", "cid-1"]
    assert found.dropped == {"not longer than 0.3 s without silence": 1}
    heard = found.clips[0].load()
    assert len(heard) == found.clips[0].num_samples == pytest.approx(0.6 * 16000, abs=320)
    assert heard[500:1000].abs().max() > 0.1
    assert [cut.id for cut in fold.splits["test"].cuts] == [cut.id for cut in others]
    assert fold.splits["test"].dropped == {"in no trial": 1}
    with pytest.raises(TaskError, match="train split: no utterance is longer than 2 s"):
        verification.load(get_task("asv"), corpus, encoder)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda good: [*good, Trial(True, "dan-0", "nobody")], CorpusError, r"(?s)1 unknown id\(s\).*nobody: no recording"),
        (lambda good: [trial for trial in good if trial.same], TaskError, "2 of 2 trials of test have label 1"),
        (lambda good: [*good, Trial(False, "dan-0", "silent-0")], TaskError, r"(?s)shorter than one frame.*silent-0: 0 samples"),
        (None, CorpusError, "list of trials"),
    ],
)
def test_wrong_trials(change, error, message, model_dir, tmp_path, generator):
    train, test = (spoken(tmp_path, names, 2, generator) for names in (("ann", "bob"), ("dan", "eve")))
    silent = make_cut(tmp_path / "wav", "silent-0", np.zeros(16000))
    corpus = write_splits(tmp_path, {"train": train, "test": [*test, silent]})
    if change is not None:
        write_trials(corpus / "trials.csv", change(trials_of(test)))
    with pytest.raises(error, match=message):
        evaluate(model_dir, "asv", corpus, tmp_path / "asv.json", QUICK["asv"])
    assert not (tmp_path / "asv.json").exists()


def test_trials_are_scored_by_cosine(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    names = [f"r{index}" for index in range(9)]
    embeddings = {name: torch.nn.functional.normalize(torch.randn(5, generator=generator), dim=0) for name in names}
    trials = [Trial(index % 3 == 0, names[index % 9], names[(2 * index + 1) % 9]) for index in range(40)]
    expected = [float(embeddings[trial.enrolment] @ embeddings[trial.test]) for trial in trials]
    for at_a_time in (verification.ENROLMENTS_AT_A_TIME, 2):
        monkeypatch.setattr(verification, "ENROLMENTS_AT_A_TIME", at_a_time)
        assert trial_scores(trials, embeddings).tolist() == pytest.approx(expected, abs=1e-6)
    assert 0 < trial_error_rate(trials, embeddings)[0] < 1
    embeddings["r3"] = embeddings["r3"] * float("nan")
    assert trial_error_rate(trials, embeddings)[0] == 1.0
