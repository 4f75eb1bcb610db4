import numpy as np
import pytest
import soundfile
from evaluate.corpora import QUICK, spoken, voice, write_speakers
from evaluate.tone_corpus import make_cut

from speechft.errors import AudioError
from speechft.evaluate import evaluate, plan_evaluation
from speechft.evaluate.data import silence
from speechft.evaluate.data.silence import Silence
from speechft.evaluate.data.splits import manifest_hash

GAIN = 0.7


@pytest.fixture
def reads(monkeypatch):
    """Ids of the recordings whose silence was measured."""
    found, original = [], Silence._measure

    def measuring(self, cuts, *args):
        found.extend(cut.id for cut in cuts)
        return original(self, cuts, *args)

    monkeypatch.setattr(Silence, "_measure", measuring)
    return found


@pytest.fixture
def cuts(tmp_path):
    generator = np.random.default_rng(0)
    padded = np.concatenate([np.zeros(8000), voice("ann", 0.5, generator), np.zeros(8000)])
    return [make_cut(tmp_path / "wav", "padded", padded), *spoken(tmp_path, ("bob",), 2, generator)]


def test_lengths_are_measured_once(cuts, tmp_path, reads):
    sha256 = manifest_hash(cuts)
    clips = Silence(GAIN, tmp_path / "work").clips(cuts, sha256, "train")
    assert sorted(reads) == sorted(cut.id for cut in cuts)
    assert clips[0].num_samples == pytest.approx(8000, abs=400)
    assert [len(clip.load()) for clip in clips] == [clip.num_samples for clip in clips]
    reads.clear()
    assert Silence(GAIN, tmp_path / "work").clips(cuts, sha256, "train") == clips
    assert reads == []
    # Another threshold, another corpus.
    assert Silence(0.5, tmp_path / "work").clips(cuts, sha256, "train")[1:] == tuple(
        silence.VoicedClip(clip.cut, 0, clip.num_samples, 0.5, clip.num_samples) for clip in clips[1:]
    )
    Silence(GAIN, tmp_path / "work").clips(cuts[1:], manifest_hash(cuts[1:]), "train")
    assert len(reads) == 3 + 2
    assert len(list((tmp_path / "work").iterdir())) == 3


@pytest.mark.parametrize("damage", [lambda data: data[:-4], lambda data: data[:8] + b"{" * 40, lambda data: data[:-8] + b"\xff" * 8])
def test_damaged_lengths_are_measured_again(damage, cuts, tmp_path, reads):
    sha256 = manifest_hash(cuts)
    clips = Silence(GAIN, tmp_path / "work").clips(cuts, sha256, "train")
    (path,) = (tmp_path / "work").iterdir()
    path.write_bytes(damage(path.read_bytes()))
    reads.clear()
    assert Silence(GAIN, tmp_path / "work").clips(cuts, sha256, "train") == clips
    assert len(reads) == 3


def test_a_recording_that_changed_is_an_error(cuts, tmp_path):
    clip = Silence(GAIN, tmp_path).clips(cuts, manifest_hash(cuts), "train")[0]
    path = cuts[0].recording.sources[0].source
    soundfile.write(path, np.zeros(cuts[0].num_samples), 16000)
    with pytest.raises(AudioError, match=r"padded.wav: has 0 samples without silence, but \d+ were measured"):
        clip.load()


def test_an_estimate_reads_no_recording_and_counts_silence(model_dir, tmp_path, reads, count_passes):
    generator = np.random.default_rng(0)
    long = make_cut(tmp_path / "wav", "long", np.concatenate([voice("bob", 9.0, generator), np.zeros(16000)]), speaker="bob")
    faint = make_cut(tmp_path / "wav", "faint", np.concatenate([voice("ann", 0.1, generator), np.zeros(16000)]), speaker="ann")
    train = [long, faint, *spoken(tmp_path, ("ann", "bob"), 2, generator)]
    corpus = write_speakers(tmp_path, train=train, test=spoken(tmp_path, ("dan", "eve"), 2, generator))
    recipe = {**QUICK["asv"], "steps": 2, "eval_every": 1}
    before = plan_evaluation(model_dir, "asv", corpus, recipe)
    assert reads == []
    assert not (tmp_path / "work").exists()
    cell = evaluate(model_dir, "asv", corpus, tmp_path / "asv.json", recipe, work_dir=tmp_path / "work")
    assert len(reads) == 6 + 4
    reads.clear()
    assert cell["counts"]["encoder_passes"] == count_passes["clips"] < before.encoder_passes
    # For the next model nothing is measured again, though features are gone.
    evaluate(model_dir, "asv", corpus, tmp_path / "again.json", recipe, work_dir=tmp_path / "work")
    assert reads == []
