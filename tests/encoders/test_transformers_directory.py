"""Directories that transformers itself wrote."""

import json

import pytest
import torch
from encoders.tiny import LARGE, WEIGHTS, build, edit_json, equal, same_weights, saved, weights
from safetensors.torch import load_file, save_file

from speechft.encoders import export_checkpoint, import_checkpoint, inspect_checkpoint, load_encoder
from speechft.errors import CheckpointError


@pytest.mark.parametrize("name", ["HubertModel", "Wav2Vec2Model", "WavLMModel"])
@pytest.mark.parametrize("large", [False, True])
def test_bare_models(name, large, tmp_path, waveforms_of):
    model = build(name, **(LARGE if large else {})).eval()
    model.save_pretrained(tmp_path / "theirs")
    import_checkpoint(tmp_path / "theirs", tmp_path / "ours")
    encoder = load_encoder(tmp_path / "ours")
    assert encoder.normalize is large
    assert not encoder.config.layerdrop
    encoder.normalize = False
    assert equal(weights(tmp_path / "ours"), model.state_dict())
    (waveform,) = waveforms_of([3000])
    with torch.inference_mode():
        torch.testing.assert_close(encoder.encode([waveform]).hidden_states[-1], model(waveform[None]).last_hidden_state, atol=1e-4, rtol=0)
    if name != "WavLMModel":
        with pytest.raises(CheckpointError, match="final_proj"):
            export_checkpoint(tmp_path / "ours", tmp_path / "out.pt", format="s3prl")


def test_models_for_pretraining_keep_their_other_tensors(tmp_path):
    model = build("Wav2Vec2ForPreTraining", codevector_dim=16, proj_codevector_dim=16, num_codevectors_per_group=8)
    model.save_pretrained(tmp_path / "theirs")
    import_checkpoint(tmp_path / "theirs", tmp_path / "ours")
    extra = load_file(tmp_path / "ours" / "pretraining_only.safetensors")
    assert torch.equal(extra["quantizer.vars"], model.quantizer.codevectors)
    assert torch.equal(extra["final_proj.weight"], model.project_hid.weight)
    assert len(extra) == 7
    export_checkpoint(tmp_path / "ours", tmp_path / "out.pt", format="fairseq")
    import_checkpoint(tmp_path / "out.pt", tmp_path / "back")
    assert same_weights(tmp_path / "ours", tmp_path / "back")


@pytest.mark.parametrize("kind", ["whole", "shards", "bin", "bin_shards", "old_names"])
def test_every_kind_of_weight_files_is_the_same_model(kind, tmp_path):
    model, theirs = build("HubertForCTC"), tmp_path / "theirs"
    tensors = model.state_dict()
    if kind in ("whole", "shards"):
        model.save_pretrained(theirs, max_shard_size="40KB" if kind == "shards" else "1GB")
    else:
        model.config.save_pretrained(theirs)
        old = {".original0": ".weight_g", ".original1": ".weight_v"} if kind == "old_names" else {}
        for new, name in old.items():
            tensors = {key.replace(f".parametrizations.weight{new}", name): tensor for key, tensor in tensors.items()}
        if kind == "bin_shards":
            places = {name: f"pytorch_model-0000{1 + index % 2}-of-00002.bin" for index, name in enumerate(tensors)}
            for file in set(places.values()):
                torch.save({name: tensors[name] for name, place in places.items() if place == file}, theirs / file)
            edit_json(theirs / "pytorch_model.bin.index.json", weight_map=places)
        else:
            torch.save(tensors, theirs / "pytorch_model.bin")
    import_checkpoint(theirs, tmp_path / "ours")
    assert equal(weights(tmp_path / "ours"), model.base_model.state_dict())
    assert inspect_checkpoint(theirs)["parameters"] == sum(tensor.numel() for tensor in tensors.values())
    if kind == "bin":
        import_checkpoint(theirs / "pytorch_model.bin", tmp_path / "by_file")
        assert same_weights(tmp_path / "by_file", tmp_path / "ours")
    if kind == "bin_shards":
        (theirs / "pytorch_model-00002-of-00002.bin").unlink()
        for read in (lambda: import_checkpoint(theirs, tmp_path / "out"), lambda: inspect_checkpoint(theirs)):
            with pytest.raises(CheckpointError, match=r"00002-of-00002\.bin: no such file, needed as a shard"):
                read()


@pytest.mark.parametrize("text", ["{", "[]", '{"weight_map": []}', '{"weight_map": {}}', '{"weight_map": {"a": 3}}'])
def test_damaged_indexes(text, tmp_path):
    build("HubertModel").config.save_pretrained(tmp_path / "theirs")
    (tmp_path / "theirs/pytorch_model.bin.index.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"index\.json"):
        import_checkpoint(tmp_path / "theirs", tmp_path / "out")


def test_without_mask_embedding(tmp_path):
    saved(tmp_path / "theirs", "HubertModel", mask_time_prob=0.0, mask_feature_prob=0.0)
    import_checkpoint(tmp_path / "theirs", tmp_path / "ours")
    assert "masked_spec_embed" not in weights(tmp_path / "ours")
    load_encoder(tmp_path / "ours")


def test_normalization_can_be_given(tmp_path):
    import_checkpoint(saved(tmp_path / "theirs", "HubertModel"), tmp_path / "ours", config={"normalize": True})
    assert load_encoder(tmp_path / "ours").normalize
    assert json.loads((tmp_path / "ours" / "preprocessor_config.json").read_text())["do_normalize"]
    for config, message in (({"normalize": False}, "normalize=False"), ({"hidden_size": 3}, "hidden_size")):
        with pytest.raises(CheckpointError, match=message):
            import_checkpoint(tmp_path / "ours", tmp_path / "again", config=config)


def test_refusals(tmp_path):
    theirs = saved(tmp_path / "theirs", "HubertModel")

    def refused(message, **options):
        with pytest.raises(CheckpointError, match=message):
            import_checkpoint(theirs, tmp_path / "ours", **options)
        assert not (tmp_path / "ours").exists()

    refused("holds a hubert model, not wavlm", family="wavlm")
    refused("format is transformers", format="fairseq")
    save_file({**weights(theirs), "lm_head.weight": torch.zeros(3)}, theirs / WEIGHTS)
    refused(r"lm_head\.weight is unexpected")
    (theirs / WEIGHTS).unlink()
    refused(r"config\.json")


@pytest.mark.parametrize("changes", [{"add_adapter": True}, {"conv_pos_batch_norm": True}, {"adapter_attn_dim": 4}])
def test_parts_that_no_encoder_here_has(changes, tmp_path):
    edit_json(saved(tmp_path / "theirs", "HubertModel") / "config.json", **changes)
    for use in (lambda: import_checkpoint(tmp_path / "theirs", tmp_path / "out"), lambda: load_encoder(tmp_path / "theirs")):
        with pytest.raises(CheckpointError, match=rf"\({next(iter(changes))}\) are not supported"):
            use()


def test_names_of_code_are_not_carried(tmp_path):
    code = {"auto_map": {"AutoModel": "elsewhere.Model"}, "trust_remote_code": True, "custom_pipelines": {"a": {}}}
    saved(tmp_path / "theirs", "HubertModel")
    for file in ("config.json", "preprocessor_config.json"):
        edit_json(tmp_path / "theirs" / file, **code)
    import_checkpoint(tmp_path / "theirs", tmp_path / "ours")
    edit_json(tmp_path / "ours/config.json", **code)
    export_checkpoint(tmp_path / "ours", tmp_path / "exported", format="transformers")
    for file in (tmp_path / "exported").glob("*.json"):
        assert not code.keys() & json.loads(file.read_text()).keys(), file.name
    assert same_weights(tmp_path / "exported", tmp_path / "ours")
