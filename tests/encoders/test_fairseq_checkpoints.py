"""Checkpoints of fairseq itself: as its trainer writes them now, as it wrote them before 2021, and ours read by it."""

import argparse
import dataclasses
import json

import numpy as np
import pytest
import torch
from encoders.tiny import same_weights

from speechft.encoders import export_checkpoint, import_checkpoint, load_encoder, random_encoder
from speechft.encoders.checkpoints.unpickling import load_pickle
from speechft.errors import CheckpointError

pytest.importorskip("fairseq", reason="fairseq is not installed")

SIZES = {
    "encoder_layers": 2,
    "encoder_embed_dim": 48,
    "encoder_ffn_embed_dim": 96,
    "encoder_attention_heads": 4,
    "conv_feature_layers": "[(32,10,5)] + [(32,3,2)] * 4 + [(32,2,2)] * 2",
    "conv_pos": 16,
    "conv_pos_groups": 4,
    "final_dim": 16,
}


def plain_config(config, name):
    """A fairseq configuration object as the plain dict that checkpoints hold."""
    values = {key: value for key, value in dataclasses.asdict(config).items() if not (isinstance(value, str) and value.startswith("${"))}
    return {**values, "_name": name}


def dictionary(size=5):
    from fairseq.data.dictionary import Dictionary

    symbols = Dictionary()
    for index in range(size):
        symbols.add_symbol(str(index), n=index + 1)
    return symbols


def trainer_state(model, model_cfg, task_cfg, task_state):
    """What fairseq's trainer saves, with the kinds of objects that end up in its extra state."""
    history = {"criterion_name": "C", "optimizer_name": "O", "lr_scheduler_state": {"best": np.float64(2.5)}, "num_updates": 3}
    return {
        "args": None,
        "cfg": {"_name": None, "common": {"seed": 1, "user_dir": "/elsewhere/plugin"}, "task": task_cfg, "model": model_cfg},
        "model": model.state_dict(),
        "criterion": None,
        "optimizer_history": [history],
        "task_state": task_state,
        "extra_state": {"metrics": {}, "val_loss": np.float64(2.5), "train_iterator": {"epoch": 1}},
        "last_optimizer_state": {"state": {0: {"step": 3, "exp_avg": torch.zeros(3)}}, "param_groups": []},
    }


@pytest.fixture(scope="module")
def fairseq_hubert():
    """A model of fairseq, and what its trainer saves."""
    from fairseq.models.hubert.hubert import HubertConfig, HubertModel
    from fairseq.tasks.hubert_pretraining import HubertPretrainingConfig

    torch.manual_seed(0)
    config, task = HubertConfig(label_rate=50.0, **SIZES), HubertPretrainingConfig(data="/elsewhere/manifests", labels=["km"])
    model = HubertModel(config, task, [dictionary()]).eval()
    state = {"dictionaries": [dictionary()]}
    return model, trainer_state(model, plain_config(config, "hubert"), plain_config(task, "hubert_pretraining"), state)


@pytest.fixture(scope="module")
def fairseq_wav2vec2():
    from fairseq.models.wav2vec.wav2vec2 import Wav2Vec2Config, Wav2Vec2Model
    from fairseq.tasks.audio_pretraining import AudioPretrainingConfig

    torch.manual_seed(0)
    config = Wav2Vec2Config(quantize_targets=True, latent_vars=8, **SIZES)
    task, model = AudioPretrainingConfig(data="/elsewhere/manifests"), Wav2Vec2Model(config).eval()
    return model, trainer_state(model, plain_config(config, "wav2vec2"), plain_config(task, "audio_pretraining"), {})


def load_in_fairseq(path):
    from fairseq import checkpoint_utils
    from fairseq.data.dictionary import Dictionary

    with torch.serialization.safe_globals([Dictionary]):
        (model,), _, task = checkpoint_utils.load_model_ensemble_and_task([str(path)])
    return model, task


def imported(state, folder, name="encoder", **options):
    torch.save(state, folder / f"{name}.pt", **options)
    import_checkpoint(folder / f"{name}.pt", folder / name)
    return folder / name


def back_in_fairseq(directory, model):
    """Export an encoder directory to fairseq, which loads the model that it is of; its task, and the file."""
    out = directory.parent / "out.pt"
    export_checkpoint(directory, out, format="fairseq")
    loaded, task = load_in_fairseq(out)
    assert type(loaded) is type(model)
    found, expected = loaded.state_dict(), model.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    return task, out


def features_agree(model, directory, waveforms):
    encoder = load_encoder(directory)
    with torch.inference_mode():
        for waveform in waveforms:
            expected = model.extract_features(waveform[None], padding_mask=None, mask=False)
            expected = expected["x"] if isinstance(expected, dict) else expected[0]
            torch.testing.assert_close(encoder.encode([waveform]).hidden_states[-1], expected, atol=1e-5, rtol=0)


def test_hubert_of_the_trainer(fairseq_hubert, tmp_path, waveforms_of):
    model, state = fairseq_hubert
    encoder = imported(state, tmp_path)
    features_agree(model, encoder, waveforms_of([3000, 5000]))
    source = json.loads((encoder / "source_config.json").read_text())
    assert source["dictionaries"] == [{"symbols": ["<s>", "<pad>", "</s>", "<unk>", *"01234"], "count": [1, 1, 1, 1, 1, 2, 3, 4, 5]}]
    assert "/elsewhere" not in json.dumps(source)
    task, out = back_in_fairseq(encoder, model)
    (found,) = task.dictionaries
    assert (found, found.count) == (dictionary(), dictionary().count)
    assert (found.pad(), found.nspecial) == (1, 4)
    import_checkpoint(out, tmp_path / "back")
    assert same_weights(encoder, tmp_path / "back")
    for file in ("config.json", "source_config.json"):
        assert (encoder / file).read_text() == (tmp_path / "back" / file).read_text()


def test_wav2vec2_of_the_trainer(fairseq_wav2vec2, tmp_path, waveforms_of):
    model, state = fairseq_wav2vec2
    encoder = imported(state, tmp_path)
    features_agree(model, encoder, waveforms_of([3000, 5000]))
    back_in_fairseq(encoder, model)


@pytest.mark.parametrize("zipped", [True, False])
def test_flat_arguments_of_old_checkpoints(fairseq_wav2vec2, tmp_path, zipped):
    model, state = fairseq_wav2vec2
    arguments = {**state["cfg"]["model"], **state["cfg"]["task"], "arch": "wav2vec2", "task": "audio_pretraining"}
    arguments |= {"latent_temp": "(2,0.5,0.999995)", "normalize": True}
    del arguments["_name"]
    old = {key: value for key, value in state.items() if key not in ("cfg", "task_state")}
    encoder = imported({**old, "args": argparse.Namespace(**arguments)}, tmp_path, _use_new_zipfile_serialization=zipped)
    assert load_encoder(encoder).normalize
    task, _ = back_in_fairseq(encoder, model)
    assert task.cfg.normalize


def test_configuration_as_omegaconf_containers(fairseq_hubert, tmp_path):
    """Some releases pickled the configuration as it was in memory."""
    from omegaconf import OmegaConf

    _, state = fairseq_hubert
    omega, plain = imported({**state, "cfg": OmegaConf.create(state["cfg"])}, tmp_path, "omega"), imported(state, tmp_path, "plain")
    assert (omega / "source_config.json").read_text() == (plain / "source_config.json").read_text()


def test_reading_never_loads_fairseq(fairseq_hubert, tmp_path):
    torch.save(fairseq_hubert[1], tmp_path / "c.pt")
    content = load_pickle(tmp_path / "c.pt")
    assert type(content["task_state"]["dictionaries"][0]).__module__.startswith("speechft")


def test_other_models_of_fairseq_are_refused(fairseq_hubert, tmp_path):
    _, state = fairseq_hubert
    changed = {**state["cfg"], "model": {**state["cfg"]["model"], "_name": "data2vec_audio"}}
    with pytest.raises(CheckpointError, match="'data2vec_audio' contains no supported encoder"):
        imported({**state, "cfg": changed}, tmp_path)


@pytest.mark.parametrize("family", ["hubert", "wav2vec2"])
def test_random_encoders_load_in_fairseq(family, tmp_path):
    export_checkpoint(random_encoder(family, tmp_path / "random"), tmp_path / "out.pt", format="fairseq")
    load_in_fairseq(tmp_path / "out.pt")
