"""FBANK: its features against other implementations, its directory, and what is refused."""

import json

import numpy as np
import pytest
import torch
from encoders.tiny import WEIGHTS, edit_json, refuses
from lhotse.features.kaldi.layers import Wav2LogFilterBank
from safetensors.torch import load_file, save_file
from scipy.signal import savgol_filter
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoModel
from typer.testing import CliRunner

from speechft.cli import app
from speechft.encoders import (
    export_checkpoint,
    fbank_encoder,
    import_checkpoint,
    inspect_checkpoint,
    load_encoder,
    random_encoder,
    store_encoder,
)  # fmt: skip
from speechft.encoders.checkpoints.exporting import EXPORT_FORMATS
from speechft.errors import AudioError, CheckpointError
from speechft.finetune import finetune
from speechft.merge import merge
from speechft.recipes.finetuning import FinetuneRecipe
from speechft.recipes.pretraining import FbankRecipe


@pytest.fixture(scope="module")
def fbank_dir(tmp_path_factory):
    return fbank_encoder(tmp_path_factory.mktemp("fbank") / "fbank")


@pytest.fixture(scope="module")
def encoder(fbank_dir):
    return load_encoder(fbank_dir)


def features(encoder, waveform):
    (state,) = encoder.encode([waveform]).hidden_states
    return state[0]


@pytest.fixture(scope="module")
def reference():
    """Log-mel energies of another implementation of Kaldi's filterbanks, at 100 Hz."""
    with pytest.warns(UserWarning, match="snip_edges"):
        energies = Wav2LogFilterBank(
            sampling_rate=16000, frame_length=0.025, frame_shift=0.01, num_filters=80, dither=0.0, window_type="povey", snip_edges=True,
            remove_dc_offset=True, preemph_coeff=0.97, low_freq=20.0, high_freq=0.0, torchaudio_compatible_mel_scale=True, use_energy=False,
        )  # fmt: skip
    return lambda waveform: energies(waveform[None])[0].numpy()


def slope(values):
    return savgol_filter(values, 5, polyorder=1, deriv=1, axis=0, mode="nearest")


def test_energies_and_derivatives_are_those_of_kaldi_normalized_over_the_utterance(encoder, reference, waveforms_of, tmp_path):
    plain = load_encoder(fbank_encoder(tmp_path / "plain", FbankRecipe(normalize=False)))
    for waveform in waveforms_of([16000, 5123]):
        energies, found = reference(waveform), features(plain, waveform).numpy()
        expected = np.concatenate([energies, slope(energies), slope(slope(energies))], axis=1)[::2]
        np.testing.assert_allclose(found, expected, atol=2e-4)
        np.testing.assert_allclose(features(encoder, waveform), (found - found.mean(axis=0)) / found.std(axis=0, ddof=1), atol=1e-4)


def test_features_do_not_depend_on_the_batch_nor_in_transformers(fbank_dir, encoder, waveforms_of):
    waveforms = waveforms_of([400, 16000, 15000, 719, 720, 5000])
    (together,), lengths = encoder.encode(waveforms).hidden_states, encoder.encode(waveforms).lengths
    assert together.shape == (6, 49, 240)
    for row, waveform, length in zip(together, waveforms, lengths.tolist(), strict=True):
        assert torch.equal(row[:length], features(encoder, waveform))
        assert not row[length:].any()
    batch = pad_sequence(waveforms, batch_first=True, padding_value=1.0)
    mask = pad_sequence([torch.ones_like(waveform) for waveform in waveforms], batch_first=True)
    assert torch.equal(AutoModel.from_pretrained(fbank_dir)(batch, attention_mask=mask).last_hidden_state, together)


def test_frames_are_those_of_the_convolutional_encoders(encoder, tiny_hubert):
    hubert = load_encoder(tiny_hubert)
    assert (encoder.frame_shift, encoder.min_samples) == (hubert.frame_shift, hubert.min_samples) == (320, 400)
    assert [encoder.frame_count(n) for n in range(300, 3000)] == [hubert.frame_count(n) for n in range(300, 3000)]
    assert (encoder.num_states, encoder.hidden_size) == (1, 240)
    with pytest.raises(AudioError, match="399 samples"):
        encoder.encode([torch.zeros(399)])


def test_silence_and_single_frames_are_zero(encoder):
    for waveform in (torch.zeros(16000), torch.full((16000,), 0.3), torch.randn(400)):
        assert not features(encoder, waveform).any()


def test_autocast_does_not_coarsen_the_features(encoder, waveforms_of):
    (waveform,) = waveforms_of([8000])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = features(encoder, waveform)
    assert rounded.dtype == torch.float32
    assert torch.equal(rounded, features(encoder, waveform))


def test_the_directory_says_what_it_is(fbank_dir):
    assert load_file(fbank_dir / WEIGHTS).keys() == {"window"}
    assert (fbank_dir / WEIGHTS).stat().st_size < 2000
    provenance = json.loads((fbank_dir / "provenance.json").read_text())
    assert (provenance["kind"], provenance["inputs"]) == ("fbank", {})
    assert provenance["recipe"] == {"mel_bins": 80, "deltas": 2, "normalize": True}
    card = (fbank_dir / "README.md").read_text()
    assert "80 log-mel energies and their time derivatives up to order 2, normalized over each utterance" in card
    assert "It has no learned weights" in card
    assert inspect_checkpoint(fbank_dir)["family"] == "fbank"


def test_damage_is_noticed(fbank_dir, tmp_path):
    for changes, window, message in (
        ({}, torch.ones(3), r"window has shape \[3\]"),
        ({"hidden_size": 241}, load_file(fbank_dir / WEIGHTS)["window"], "hidden_size must be"),
    ):
        (tmp_path / "config.json").write_bytes((fbank_dir / "config.json").read_bytes())
        edit_json(tmp_path / "config.json", **changes)
        save_file({"window": window}, tmp_path / WEIGHTS)
        with pytest.raises(CheckpointError, match=message):
            load_encoder(tmp_path)


REFUSAL = "a fbank encoder has no learned weights to {}. Use an encoder of another family: hubert, wav"


@pytest.mark.parametrize(
    ("action", "use"),
    [
        *(("export", lambda fbank, _, out, format=format: export_checkpoint(fbank, out, format=format)) for format in EXPORT_FORMATS),
        ("merge", lambda fbank, _, out: merge(fbank, fbank_encoder(out.parent / "in/other", FbankRecipe(normalize=False)), out)),
        ("merge", lambda fbank, hubert, out: merge(hubert, fbank, out)),
        ("fine-tune", lambda fbank, _, out: finetune(fbank, FinetuneRecipe(task="ks", updates=1), out.parent / "in", out, out / "work")),
        ("import", lambda fbank, _, out: import_checkpoint(fbank, out)),
        ("store", lambda fbank, _, out: store_encoder(fbank, out)),
        ("draw", lambda fbank, _, out: random_encoder("fbank", out)),
    ],
)
def test_what_needs_weights_is_refused(fbank_dir, tiny_hubert, tmp_path, action, use):
    (tmp_path / "in").mkdir()
    for split in ("train", "dev"):
        (tmp_path / f"in/{split}.jsonl.gz").write_bytes(b"")
    with pytest.raises(CheckpointError, match=REFUSAL.format(action)):
        use(fbank_dir, tiny_hubert, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_there_are_no_checkpoints(tmp_path):
    torch.save({"model": {"post_extract_proj.weight": torch.zeros(4, 4)}}, tmp_path / "a.pt")
    assert refuses("no fbank checkpoints", tmp_path / "a.pt", tmp_path / "out", family="fbank")


def test_command_line_and_settings(tmp_path, waveforms_of):
    recipe = tmp_path / "fbank.json"
    recipe.write_text(json.dumps({"mel_bins": 23}))
    arguments = ["fbank", "--recipe", str(recipe), "--deltas", "1", "--no-normalize", "--out", str(tmp_path / "m")]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    assert json.loads((tmp_path / "m/provenance.json").read_text())["recipe"] == {"mel_bins": 23, "deltas": 1, "normalize": False}
    small = load_encoder(tmp_path / "m")
    assert features(small, waveforms_of([4000])[0]).shape == (12, small.hidden_size) == (12, 46)
    wrong = CliRunner().invoke(app, ["fbank", "--deltas", "3", "--out", str(tmp_path / "n")])
    assert "deltas: Input should be less than or equal to 2, found 3" in str(wrong.exception)
    assert not (tmp_path / "n").exists()
