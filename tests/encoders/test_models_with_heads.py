"""What fine-tuning with transformers, fairseq and s3prl writes: the encoder is taken, the head is left out."""

import argparse
import json
import logging

import pytest
import torch
from safetensors.torch import load_file, save_file

from speechft.encoders import export_checkpoint, import_checkpoint, inspect_checkpoint, load_encoder, random_encoder
from speechft.errors import CheckpointError

WEIGHTS = "model.safetensors"
SIZES = {
    "hidden_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 96,
    "conv_dim": [32] * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
    "vocab_size": 32,
}
HEADS = {
    "Hubert": ("ForCTC", "ForSequenceClassification"),
    "Wav2Vec2": ("ForCTC", "ForSequenceClassification", "ForXVector", "ForAudioFrameClassification"),
    "WavLM": ("ForCTC", "ForSequenceClassification", "ForXVector", "ForAudioFrameClassification"),
}


def build(name, **changes):
    import transformers

    family = name.split("For")[0].removesuffix("Model")
    torch.manual_seed(0)
    return getattr(transformers, name)(getattr(transformers, f"{family}Config")(**{**SIZES, **changes}))


def is_the_encoder(directory, tensors):
    stored = load_file(directory / WEIGHTS)
    return stored.keys() == tensors.keys() and all(torch.equal(tensor, stored[name]) for name, tensor in tensors.items())


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("family", "head"), [(family, head) for family, heads in HEADS.items() for head in heads])
def test_heads_of_transformers_are_left_out(family, head, weighted, tmp_path, caplog):
    model = build(family + head, use_weighted_layer_sum=weighted)
    model.save_pretrained(tmp_path / "theirs")
    with caplog.at_level(logging.WARNING):
        import_checkpoint(tmp_path / "theirs", tmp_path / "ours")
    assert is_the_encoder(tmp_path / "ours", model.base_model.state_dict())
    assert sum("has a head, which is left out" in line for line in caplog.messages) == 1
    load_encoder(tmp_path / "ours")


def test_directories_of_every_kind_of_file_are_the_same_model(tmp_path):
    model = build("HubertForCTC")
    model.save_pretrained(tmp_path / "whole")
    model.save_pretrained(tmp_path / "shards", max_shard_size="40KB")
    tensors = model.state_dict()
    names = list(tensors)
    for folder in ("bin", "bin_shards"):
        (tmp_path / folder).mkdir()
        model.config.save_pretrained(tmp_path / folder)
    torch.save(tensors, tmp_path / "bin/pytorch_model.bin")
    parts = {"pytorch_model-00001-of-00002.bin": names[:9], "pytorch_model-00002-of-00002.bin": names[9:]}
    for file, part in parts.items():
        torch.save({name: tensors[name] for name in part}, tmp_path / "bin_shards" / file)
    index = {"weight_map": {name: file for file, part in parts.items() for name in part}}
    (tmp_path / "bin_shards/pytorch_model.bin.index.json").write_text(json.dumps(index))
    for folder in ("whole", "shards", "bin", "bin_shards"):
        import_checkpoint(tmp_path / folder, tmp_path / f"{folder}_imported")
        assert is_the_encoder(tmp_path / f"{folder}_imported", model.base_model.state_dict())
        assert inspect_checkpoint(tmp_path / folder)["parameters"] == sum(tensor.numel() for tensor in tensors.values())
    import_checkpoint(tmp_path / "bin/pytorch_model.bin", tmp_path / "by_file")
    assert is_the_encoder(tmp_path / "by_file", model.base_model.state_dict())
    (tmp_path / "bin_shards/pytorch_model-00002-of-00002.bin").unlink()
    for read in (lambda: import_checkpoint(tmp_path / "bin_shards", tmp_path / "out"), lambda: inspect_checkpoint(tmp_path / "bin_shards")):
        with pytest.raises(CheckpointError, match=r"00002-of-00002\.bin: no such file, needed as a shard"):
            read()


@pytest.mark.parametrize("text", ["{", "[]", '{"weight_map": []}', '{"weight_map": {}}', '{"weight_map": {"a": 3}}'])
def test_damaged_indexes(text, tmp_path):
    build("HubertModel").config.save_pretrained(tmp_path / "theirs")
    (tmp_path / "theirs/pytorch_model.bin.index.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"index\.json"):
        import_checkpoint(tmp_path / "theirs", tmp_path / "out")


@pytest.fixture(params=["hubert", "wav2vec2"])
def fairseq_ctc(request, tmp_path):
    """A pre-trained encoder, and a fine-tuned one inside of a CTC model of fairseq; function that saves it with some configuration."""
    family = request.param
    random_encoder(family, tmp_path / "tuned", seed=1, normalize=True, encoder_attention_heads=2)
    export_checkpoint(tmp_path / "tuned", tmp_path / "tuned.pt", format="fairseq")
    inner = torch.load(tmp_path / "tuned.pt", weights_only=False)
    removed = ("final_proj", "label_embs_concat", "quantizer", "project_q")  # as fairseq removes them for fine-tuning
    tensors = {f"w2v_encoder.w2v_model.{name}": tensor for name, tensor in inner["model"].items() if not name.startswith(removed)}
    tensors |= {"w2v_encoder.proj.weight": torch.zeros(32, 64), "w2v_encoder.proj.bias": torch.zeros(32)}
    cfg = {"task": inner["cfg"]["task"], "model": inner["cfg"]["model"]}

    def save(style):
        outer = {"_name": f"{family.removesuffix('2')}_ctc", "w2v_path": "/elsewhere/base.pt", "normalize": True}
        content = {"model": tensors, "args": None, "cfg": None, "task_state": {"target_dictionary": [1]}}
        if style == "new":
            content["cfg"] = {"model": {**outer, "w2v_args": cfg}, "task": {"_name": "audio_finetuning", "normalize": True}}
        elif style == "old":
            flat = argparse.Namespace(**{**cfg["model"], "arch": family, "normalize": True})
            content["args"] = argparse.Namespace(**{**outer, "arch": outer["_name"], "w2v_args": flat})
        else:
            content["args"] = argparse.Namespace(**{**outer, "arch": outer["_name"], "w2v_args": None})
        torch.save(content, tmp_path / f"{style}.pt")
        return tmp_path / f"{style}.pt"

    return tmp_path, save


@pytest.mark.parametrize("style", ["new", "old", "without"])
def test_ctc_models_of_fairseq(fairseq_ctc, style, caplog):
    folder, save = fairseq_ctc
    options = {"like": folder / "tuned"} if style == "without" else {}
    with caplog.at_level(logging.WARNING):
        import_checkpoint(save(style), folder / "ours", **options)
    assert is_the_encoder(folder / "ours", load_file(folder / "tuned" / WEIGHTS))
    found, expected = load_encoder(folder / "ours"), load_encoder(folder / "tuned")
    assert found.normalize
    assert found.config.num_attention_heads == expected.config.num_attention_heads == 2
    assert "w2v_encoder.proj.bias" in caplog.text
    assert inspect_checkpoint(folder / f"{style}.pt")["family"] == expected.family
    with pytest.raises(CheckpointError, match="Export with format='transformers'"):
        export_checkpoint(folder / "ours", folder / "out.pt", format="fairseq")


def test_a_ctc_model_that_fairseq_built(tmp_path):
    """The layout above is that of fairseq's own class."""
    pytest.importorskip("fairseq", reason="fairseq is not installed")
    from omegaconf import OmegaConf

    from speechft.fairseq_plugin.trainer import import_fairseq

    import_fairseq()
    from fairseq.models.wav2vec.wav2vec2_asr import Wav2Vec2CtcConfig, Wav2VecCtc, Wav2VecEncoder

    random_encoder("wav2vec2", tmp_path / "base", seed=1)
    export_checkpoint(tmp_path / "base", tmp_path / "base.pt", format="fairseq")
    others = {
        "distributed_training": {"ddp_backend": "legacy_ddp"},
        "common": {"tpu": False},
        "checkpoint": {"checkpoint_activations": False},
    }
    chosen = OmegaConf.structured(Wav2Vec2CtcConfig(w2v_path=str(tmp_path / "base.pt")))
    cfg = OmegaConf.create({"model": chosen, "task": {"data": "", "normalize": False}, **others})
    model = Wav2VecCtc(cfg.model, Wav2VecEncoder(cfg.model, 5))
    saved = OmegaConf.to_container(cfg, enum_to_str=True)
    saved["model"]["_name"] = "wav2vec_ctc"
    torch.save({"args": None, "cfg": saved, "model": model.state_dict(), "task_state": {}}, tmp_path / "ctc.pt")
    import_checkpoint(tmp_path / "ctc.pt", tmp_path / "ours")
    assert is_the_encoder(tmp_path / "ours", load_file(tmp_path / "base" / WEIGHTS))


@pytest.mark.parametrize("family", ["Hubert", "Wav2Vec2", "WavLM"])
@pytest.mark.parametrize("head", ["Model", "ForCTC"])
def test_runs_of_s3prl_with_upstreams_of_transformers(family, head, tmp_path):
    base = build(f"{family}Model", do_stable_layer_norm=True, feat_extract_norm="layer", conv_bias=True)
    base.save_pretrained(tmp_path / "base")
    tuned = build(family + head, do_stable_layer_norm=True, feat_extract_norm="layer", conv_bias=True)
    run = {"Upstream": {f"model.{name}": tensor for name, tensor in tuned.state_dict().items()}, "Downstream": {}}
    run["Args"] = argparse.Namespace(upstream=f"hf_{family.lower()}_custom")
    torch.save(run, tmp_path / "dev-best.ckpt")
    import_checkpoint(tmp_path / "dev-best.ckpt", tmp_path / "ours", like=tmp_path / "base")
    assert is_the_encoder(tmp_path / "ours", tuned.base_model.state_dict())
    assert load_encoder(tmp_path / "ours").normalize
    with pytest.raises(CheckpointError, match="encoder_attention_heads"):
        import_checkpoint(tmp_path / "dev-best.ckpt", tmp_path / "alone")


@pytest.mark.parametrize("content", [{}, {"Upstream": {}}, {"Upstream": None}])
def test_runs_of_s3prl_with_a_frozen_upstream(content, tmp_path):
    torch.save({**content, "Downstream": {"w": torch.zeros(1)}, "Step": 1}, tmp_path / "dev-best.ckpt")
    with pytest.raises(CheckpointError, match="it was frozen, so nothing was fine-tuned"):
        import_checkpoint(tmp_path / "dev-best.ckpt", tmp_path / "out")


def test_bare_weights_with_the_configuration_of_their_base(tmp_path):
    model = build("HubertForCTC")
    build("HubertModel").save_pretrained(tmp_path / "base")
    torch.save(model.state_dict(), tmp_path / "tuned.bin")
    import_checkpoint(tmp_path / "tuned.bin", tmp_path / "ours", like=tmp_path / "base")
    assert is_the_encoder(tmp_path / "ours", model.base_model.state_dict())


@pytest.mark.parametrize("changes", [{"add_adapter": True}, {"conv_pos_batch_norm": True}, {"adapter_attn_dim": 4}])
def test_parts_that_no_encoder_here_has(changes, tmp_path):
    build("HubertModel").save_pretrained(tmp_path / "theirs")
    path = tmp_path / "theirs/config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    for use in (lambda: import_checkpoint(tmp_path / "theirs", tmp_path / "out"), lambda: load_encoder(tmp_path / "theirs")):
        with pytest.raises(CheckpointError, match=rf"\({next(iter(changes))}\) are not supported"):
            use()


def test_names_of_code_are_not_carried(tmp_path):
    build("HubertModel").save_pretrained(tmp_path / "theirs")
    code = {"auto_map": {"AutoModel": "elsewhere.Model"}, "trust_remote_code": True, "custom_pipelines": {"a": {}}}
    for file in ("config.json", "preprocessor_config.json"):
        path = tmp_path / "theirs" / file
        path.write_text(json.dumps({**(json.loads(path.read_text()) if path.exists() else {}), **code}))
    import_checkpoint(tmp_path / "theirs", tmp_path / "ours")
    own = tmp_path / "ours/config.json"
    own.write_text(json.dumps({**json.loads(own.read_text()), **code}))
    export_checkpoint(tmp_path / "ours", tmp_path / "exported", format="transformers")
    for file in (tmp_path / "exported").glob("*.json"):
        assert not code.keys() & json.loads(file.read_text()).keys(), file.name
    assert is_the_encoder(tmp_path / "exported", load_file(tmp_path / "ours" / WEIGHTS))


def test_weights_that_are_not_those_of_the_provenance(tmp_path):
    for seed in (0, 1):
        random_encoder("hubert", tmp_path / str(seed), seed=seed)
    tensors = load_file(tmp_path / "1" / WEIGHTS)
    save_file(tensors, tmp_path / "0" / WEIGHTS, metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"remove provenance\.json and import the directory"):
        import_checkpoint(tmp_path / "0", tmp_path / "out")
    (tmp_path / "0/provenance.json").unlink()
    import_checkpoint(tmp_path / "0", tmp_path / "out")
    assert is_the_encoder(tmp_path / "out", tensors)
