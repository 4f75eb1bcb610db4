"""Checkpoints of fairseq itself: as its trainer writes them now, as it wrote them before 2021, and ours read by it."""

import argparse
import dataclasses
import json

import numpy as np
import pytest
import torch

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


def plain_config(config, **changes):
    """A fairseq configuration object as the plain dict that checkpoints hold."""
    values = {key: value for key, value in dataclasses.asdict(config).items() if not (isinstance(value, str) and value.startswith("${"))}
    return {**values, **changes}


def dictionary(size):
    from fairseq.data.dictionary import Dictionary

    symbols = Dictionary()
    for index in range(size):
        symbols.add_symbol(str(index), n=index + 1)
    return symbols


@pytest.fixture(scope="module")
def fairseq_hubert():
    from fairseq.models.hubert.hubert import HubertConfig, HubertModel
    from fairseq.tasks.hubert_pretraining import HubertPretrainingConfig

    torch.manual_seed(0)
    config, task = HubertConfig(label_rate=50.0, **SIZES), HubertPretrainingConfig(data="/elsewhere/manifests", labels=["km"])
    return (
        HubertModel(config, task, [dictionary(5)]).eval(),
        plain_config(config, _name="hubert"),
        plain_config(task, _name="hubert_pretraining"),
    )


@pytest.fixture(scope="module")
def fairseq_wav2vec2():
    from fairseq.models.wav2vec.wav2vec2 import Wav2Vec2Config, Wav2Vec2Model
    from fairseq.tasks.audio_pretraining import AudioPretrainingConfig

    torch.manual_seed(0)
    config = Wav2Vec2Config(quantize_targets=True, latent_vars=8, **SIZES)
    task = AudioPretrainingConfig(data="/elsewhere/manifests")
    return Wav2Vec2Model(config).eval(), plain_config(config, _name="wav2vec2"), plain_config(task, _name="audio_pretraining")


def trainer_state(model, model_cfg, task_cfg, task_state):
    """What fairseq's trainer saves, with the kinds of objects that end up in its extra state."""
    return {
        "args": None,
        "cfg": {"_name": None, "common": {"seed": 1, "user_dir": "/elsewhere/plugin"}, "task": task_cfg, "model": model_cfg},
        "model": model.state_dict(),
        "criterion": None,
        "optimizer_history": [
            {"criterion_name": "C", "optimizer_name": "O", "lr_scheduler_state": {"best": np.float64(2.5)}, "num_updates": 3}
        ],
        "task_state": task_state,
        "extra_state": {"metrics": {}, "val_loss": np.float64(2.5), "train_iterator": {"epoch": 1}},
        "last_optimizer_state": {"state": {0: {"step": 3, "exp_avg": torch.zeros(3)}}, "param_groups": []},
    }


def features_agree(model, directory, waveforms):
    encoder = load_encoder(directory)
    with torch.inference_mode():
        for waveform in waveforms:
            expected = model.extract_features(waveform[None], padding_mask=None, mask=False)
            expected = expected["x"] if isinstance(expected, dict) else expected[0]
            torch.testing.assert_close(encoder.encode([waveform]).hidden_states[-1], expected, atol=1e-5, rtol=0)


def loads_in_fairseq(path, model):
    from fairseq import checkpoint_utils
    from fairseq.data.dictionary import Dictionary

    with torch.serialization.safe_globals([Dictionary]):
        (loaded,), _, task = checkpoint_utils.load_model_ensemble_and_task([str(path)])
    assert type(loaded) is type(model)
    expected = model.state_dict()
    found = loaded.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    return task


def test_hubert_of_the_trainer(fairseq_hubert, tmp_path, waveforms_of, same_weights):
    model, model_cfg, task_cfg = fairseq_hubert
    torch.save(trainer_state(model, model_cfg, task_cfg, {"dictionaries": [dictionary(5)]}), tmp_path / "checkpoint_best.pt")
    import_checkpoint(tmp_path / "checkpoint_best.pt", tmp_path / "encoder")
    features_agree(model, tmp_path / "encoder", waveforms_of([3000, 5000]))
    source = json.loads((tmp_path / "encoder" / "source_config.json").read_text())
    assert source["dictionaries"] == [{"symbols": ["<s>", "<pad>", "</s>", "<unk>", *"01234"], "count": [1, 1, 1, 1, 1, 2, 3, 4, 5]}]
    assert "/elsewhere" not in json.dumps(source)

    export_checkpoint(tmp_path / "encoder", tmp_path / "out.pt", format="fairseq")
    task = loads_in_fairseq(tmp_path / "out.pt", model)
    assert task.dictionaries[0] == dictionary(5)
    assert task.dictionaries[0].count == dictionary(5).count
    assert (task.dictionaries[0].pad(), task.dictionaries[0].nspecial) == (1, 4)
    import_checkpoint(tmp_path / "out.pt", tmp_path / "back")
    same_weights(tmp_path / "encoder", tmp_path / "back")
    for file in ("config.json", "source_config.json"):
        assert (tmp_path / "encoder" / file).read_text() == (tmp_path / "back" / file).read_text()


def test_wav2vec2_of_the_trainer(fairseq_wav2vec2, tmp_path, waveforms_of):
    model, model_cfg, task_cfg = fairseq_wav2vec2
    torch.save(trainer_state(model, model_cfg, task_cfg, {}), tmp_path / "checkpoint_best.pt")
    import_checkpoint(tmp_path / "checkpoint_best.pt", tmp_path / "encoder")
    features_agree(model, tmp_path / "encoder", waveforms_of([3000, 5000]))
    export_checkpoint(tmp_path / "encoder", tmp_path / "out.pt", format="fairseq")
    loads_in_fairseq(tmp_path / "out.pt", model)


@pytest.mark.parametrize("zipped", [True, False])
def test_flat_arguments_of_old_checkpoints(fairseq_wav2vec2, tmp_path, waveforms_of, zipped):
    model, model_cfg, task_cfg = fairseq_wav2vec2
    arguments = {
        **model_cfg,
        **task_cfg,
        "arch": "wav2vec2",
        "task": "audio_pretraining",
        "latent_temp": "(2,0.5,0.999995)",
        "normalize": True,
    }
    del arguments["_name"]
    state = {**trainer_state(model, {}, {}, {}), "args": argparse.Namespace(**arguments)}
    del state["cfg"], state["task_state"]
    torch.save(state, tmp_path / "old.pt", _use_new_zipfile_serialization=zipped)
    import_checkpoint(tmp_path / "old.pt", tmp_path / "encoder")
    assert load_encoder(tmp_path / "encoder").normalize
    export_checkpoint(tmp_path / "encoder", tmp_path / "out.pt", format="fairseq")
    task = loads_in_fairseq(tmp_path / "out.pt", model)
    assert task.cfg.normalize


def test_configuration_as_omegaconf_containers(fairseq_hubert, tmp_path):
    """Some releases pickled the configuration as it was in memory."""
    from omegaconf import OmegaConf

    model, model_cfg, task_cfg = fairseq_hubert
    state = trainer_state(model, model_cfg, task_cfg, {"dictionaries": [dictionary(5)]})
    torch.save({**state, "cfg": OmegaConf.create(state["cfg"])}, tmp_path / "omega.pt")
    torch.save(state, tmp_path / "plain.pt")
    for name in ("omega", "plain"):
        import_checkpoint(tmp_path / f"{name}.pt", tmp_path / name)
    assert (tmp_path / "omega" / "source_config.json").read_text() == (tmp_path / "plain" / "source_config.json").read_text()


def test_reading_never_loads_fairseq(fairseq_hubert, tmp_path):
    model, model_cfg, task_cfg = fairseq_hubert
    torch.save(trainer_state(model, model_cfg, task_cfg, {"dictionaries": [dictionary(5)]}), tmp_path / "c.pt")
    content = load_pickle(tmp_path / "c.pt")
    assert type(content["task_state"]["dictionaries"][0]).__module__.startswith("speechft")


def test_other_models_of_fairseq_are_refused(fairseq_hubert, tmp_path):
    model, model_cfg, task_cfg = fairseq_hubert
    torch.save(trainer_state(model, {**model_cfg, "_name": "data2vec_audio"}, task_cfg, {}), tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match="'data2vec_audio' holds no encoder that is supported"):
        import_checkpoint(tmp_path / "other.pt", tmp_path / "out")


@pytest.mark.parametrize("family", ["hubert", "wav2vec2"])
def test_random_encoders_load_in_fairseq(family, tmp_path):
    from fairseq import checkpoint_utils
    from fairseq.data.dictionary import Dictionary

    random_encoder(family, tmp_path / "random")
    export_checkpoint(tmp_path / "random", tmp_path / "out.pt", format="fairseq")
    with torch.serialization.safe_globals([Dictionary]):
        checkpoint_utils.load_model_ensemble_and_task([str(tmp_path / "out.pt")])
