"""Directories that transformers itself wrote."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from speechft.encoders import export_checkpoint, import_checkpoint, load_encoder
from speechft.errors import CheckpointError

SIZES = {
    "hidden_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 96,
    "conv_dim": [32] * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
}


def build(name, **changes):
    import transformers

    family = name.split("For")[0].removesuffix("Model")
    torch.manual_seed(0)
    return getattr(transformers, name)(getattr(transformers, f"{family}Config")(**{**SIZES, **changes}))


@pytest.mark.parametrize("name", ["HubertModel", "Wav2Vec2Model", "WavLMModel"])
@pytest.mark.parametrize("large", [False, True])
def test_bare_models(name, large, tmp_path, waveforms_of):
    model = build(name, **({"do_stable_layer_norm": True, "feat_extract_norm": "layer", "conv_bias": True} if large else {})).eval()
    model.save_pretrained(tmp_path / "theirs")
    import_checkpoint(tmp_path / "theirs", tmp_path / "ours")
    encoder = load_encoder(tmp_path / "ours")
    assert encoder.normalize is large
    assert not encoder.config.layerdrop
    encoder.normalize = False
    stored = load_file(tmp_path / "ours" / "model.safetensors")
    assert all(torch.equal(tensor, stored[key]) for key, tensor in model.state_dict().items())
    (waveform,) = waveforms_of([3000])
    with torch.inference_mode():
        torch.testing.assert_close(encoder.encode([waveform]).hidden_states[-1], model(waveform[None]).last_hidden_state, atol=1e-4, rtol=0)
    if name != "WavLMModel":
        with pytest.raises(CheckpointError, match="final_proj"):
            export_checkpoint(tmp_path / "ours", tmp_path / "out.pt", format="s3prl")


def test_models_for_pretraining_keep_their_other_tensors(tmp_path, same_weights):
    model = build("Wav2Vec2ForPreTraining", codevector_dim=16, proj_codevector_dim=16, num_codevectors_per_group=8)
    model.save_pretrained(tmp_path / "theirs")
    import_checkpoint(tmp_path / "theirs", tmp_path / "ours")
    extra = load_file(tmp_path / "ours" / "pretraining_only.safetensors")
    assert torch.equal(extra["quantizer.vars"], model.quantizer.codevectors)
    assert torch.equal(extra["final_proj.weight"], model.project_hid.weight)
    assert len(extra) == 7
    export_checkpoint(tmp_path / "ours", tmp_path / "out.pt", format="fairseq")
    import_checkpoint(tmp_path / "out.pt", tmp_path / "back")
    same_weights(tmp_path / "ours", tmp_path / "back")


def test_old_pickled_weights_and_names(tmp_path):
    model = build("HubertModel")
    model.save_pretrained(tmp_path / "theirs")
    tensors = load_file(tmp_path / "theirs" / "model.safetensors")
    (tmp_path / "theirs" / "model.safetensors").unlink()
    halves = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}
    for new, old in halves.items():
        tensors = {f"hubert.{name.removeprefix('hubert.').replace(new, old)}": tensor for name, tensor in tensors.items()}
    torch.save(tensors, tmp_path / "theirs" / "pytorch_model.bin")
    import_checkpoint(tmp_path / "theirs", tmp_path / "ours")
    stored = load_file(tmp_path / "ours" / "model.safetensors")
    assert all(torch.equal(tensor, stored[key]) for key, tensor in model.state_dict().items())


def test_sharded_weights(tmp_path):
    model = build("HubertModel")
    model.save_pretrained(tmp_path / "theirs", max_shard_size="100KB")
    assert len(list((tmp_path / "theirs").glob("*.safetensors"))) > 1
    import_checkpoint(tmp_path / "theirs", tmp_path / "ours")
    stored = load_file(tmp_path / "ours" / "model.safetensors")
    assert all(torch.equal(tensor, stored[key]) for key, tensor in model.state_dict().items())


def test_without_mask_embedding(tmp_path):
    build("HubertModel", mask_time_prob=0.0, mask_feature_prob=0.0).save_pretrained(tmp_path / "theirs")
    import_checkpoint(tmp_path / "theirs", tmp_path / "ours")
    assert "masked_spec_embed" not in load_file(tmp_path / "ours" / "model.safetensors")
    load_encoder(tmp_path / "ours")


def test_normalization_can_be_given(tmp_path):
    build("HubertModel").save_pretrained(tmp_path / "theirs")
    import_checkpoint(tmp_path / "theirs", tmp_path / "ours", config={"normalize": True})
    assert load_encoder(tmp_path / "ours").normalize
    assert json.loads((tmp_path / "ours" / "preprocessor_config.json").read_text())["do_normalize"]
    with pytest.raises(CheckpointError, match="normalize=False"):
        import_checkpoint(tmp_path / "ours", tmp_path / "again", config={"normalize": False})
    with pytest.raises(CheckpointError, match="hidden_size"):
        import_checkpoint(tmp_path / "ours", tmp_path / "again", config={"hidden_size": 3})


def test_refusals(tmp_path):
    model = build("HubertModel")
    model.save_pretrained(tmp_path / "theirs")
    with pytest.raises(CheckpointError, match="holds a hubert model, not wavlm"):
        import_checkpoint(tmp_path / "theirs", tmp_path / "ours", family="wavlm")
    with pytest.raises(CheckpointError, match="format is transformers"):
        import_checkpoint(tmp_path / "theirs", tmp_path / "ours", format="fairseq")
    tensors = load_file(tmp_path / "theirs" / "model.safetensors")
    save_file({**tensors, "lm_head.weight": torch.zeros(3)}, tmp_path / "theirs" / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"lm_head\.weight is unexpected"):
        import_checkpoint(tmp_path / "theirs", tmp_path / "ours")
    (tmp_path / "theirs" / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"config\.json"):
        import_checkpoint(tmp_path / "theirs", tmp_path / "ours")
    assert not (tmp_path / "ours").exists()
