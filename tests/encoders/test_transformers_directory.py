"""Directories that transformers and peft wrote."""

import json
import logging

import peft
import pytest
import torch
from encoders.tiny import LARGE, WEIGHTS, build, edit_json, equal, imported, refuses, same_weights, saved, weights
from safetensors.torch import load_file, save_file

from speechft.encoders import export_checkpoint, import_checkpoint, inspect_checkpoint, load_encoder
from speechft.errors import CheckpointError
from speechft.merge import merge


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
    assert equal(imported(theirs, tmp_path / "ours"), model.base_model.state_dict())
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
    assert refuses(r"index\.json", tmp_path / "theirs", tmp_path / "out")


def test_normalization_can_be_given(tmp_path):
    import_checkpoint(saved(tmp_path / "theirs", "HubertModel"), tmp_path / "ours", config={"normalize": True})
    assert load_encoder(tmp_path / "ours").normalize
    assert json.loads((tmp_path / "ours" / "preprocessor_config.json").read_text())["do_normalize"]
    for config, message in (({"normalize": False}, "normalize=False"), ({"hidden_size": 3}, "hidden_size")):
        assert refuses(message, tmp_path / "ours", tmp_path / "again", config=config)


def test_refusals(tmp_path):
    theirs, ours = saved(tmp_path / "theirs", "HubertModel"), tmp_path / "ours"
    assert refuses("contains a hubert model, not wavlm", theirs, ours, family="wavlm")
    assert refuses("has the format transformers", theirs, ours, format="fairseq")
    save_file({**weights(theirs), "lm_head.weight": torch.zeros(3)}, theirs / WEIGHTS)
    assert refuses(r"lm_head\.weight is unexpected", theirs, ours)
    (theirs / WEIGHTS).unlink()
    assert refuses(r"config\.json", theirs, ours)


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


def trained(folder, head="HubertModel", **options):
    """Write base and adapter with random weights; what peft itself makes of both."""
    model = build(head)
    model.save_pretrained(folder / "base")
    adapted = peft.get_peft_model(model, peft.LoraConfig(r=4, target_modules=["q_proj", "output_dense"], **options))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    adapted.save_pretrained(folder / "adapter")
    return adapted.merge_and_unload().base_model.state_dict()


@pytest.mark.parametrize("head", ["HubertModel", "HubertForCTC"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"use_dora": True},
        {"use_rslora": True, "lora_alpha": 3},
        {"bias": "lora_only"},
        {"rank_pattern": {"output_dense": 2}, "alpha_pattern": {"layers.1.attention.q_proj": 32}},
    ],
)
def test_adapters_give_what_peft_merges(head, options, tmp_path, caplog):
    if head == "HubertForCTC":
        options = {**options, "modules_to_save": ["lm_head"]}
    expected = trained(tmp_path, head, **options)
    with caplog.at_level(logging.WARNING):
        import_checkpoint(tmp_path / "adapter", tmp_path / "ours", like=tmp_path / "base")
    found, base = weights(tmp_path / "ours"), weights(tmp_path / "base")
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)
    prefix = "hubert." if head == "HubertForCTC" else ""
    assert any(not torch.equal(found[name], base[prefix + name]) for name in found)
    assert ("base" in caplog.text and "lm_head" in caplog.text) == (head == "HubertForCTC")
    inputs = json.loads((tmp_path / "ours/provenance.json").read_text())["inputs"]
    assert {role: entry["name"] for role, entry in inputs.items()} == {"base": "base", "adapter": "adapter_model.safetensors"}


@pytest.mark.parametrize("given", ["adapter", "adapter/adapter_model.safetensors"])
def test_an_adapter_is_a_fine_tuned_model_of_a_merge(given, tmp_path):
    tuned = trained(tmp_path)
    merge(tmp_path / "base", tmp_path / given, tmp_path / "merged", alpha=0.25)
    base = weights(tmp_path / "base")
    expected = {name: 0.75 * base[name] + 0.25 * tensor for name, tensor in tuned.items()}
    torch.testing.assert_close(weights(tmp_path / "merged"), expected, atol=1e-6, rtol=1e-5)


def test_adapters_as_a_pickle_and_inspection(tmp_path):
    expected = trained(tmp_path)
    tensors = load_file(tmp_path / "adapter/adapter_model.safetensors")
    (tmp_path / "adapter/adapter_model.safetensors").unlink()
    torch.save(tensors, tmp_path / "adapter/adapter_model.bin")
    import_checkpoint(tmp_path / "adapter", tmp_path / "ours", like=tmp_path / "base")
    torch.testing.assert_close(weights(tmp_path / "ours"), expected, atol=1e-6, rtol=1e-5)
    seen = inspect_checkpoint(tmp_path / "adapter")
    assert (seen["format"], seen["tensors"]) == ("peft", len(tensors))


def test_adapters_that_are_refused(tmp_path):
    trained(tmp_path)
    adapter, out, like = tmp_path / "adapter", tmp_path / "out", {"like": tmp_path / "base"}
    assert refuses("LoRA adapter .peft. without its model.*--base", adapter, out)
    assert refuses("contains a hubert model, not wavlm", adapter, out, family="wavlm", **like)
    assert refuses("Leave `format` and `config` out", adapter, out, config={"normalize": True}, **like)
    path = adapter / "adapter_config.json"
    config = path.read_text()
    for changes, match in (
        ({"peft_type": "IA3"}, "peft_type 'IA3' is not supported.*merge_and_unload"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights='pissa' is not supported"),
        ({"layer_replication": [[0, 2]]}, "layer_replication"),
        ({"lora_alpha": "8"}, "not a number"),
        ({"alpha_pattern": {"(a+)+$": 1}}, "alpha_pattern"),
    ):
        edit_json(path, **changes)
        assert refuses(match, adapter, out, **like)
        path.write_text(config)
    path.write_text("[1]")
    assert refuses("not an adapter configuration", adapter, out, **like)
    path.write_text(config)
    tensors = load_file(adapter / "adapter_model.safetensors")
    first = next(name for name in tensors if name.endswith("q_proj.lora_A.weight"))
    for changed, match in (
        ({**tensors, first: torch.zeros(4, 40)}, "does not fit"),
        ({name: tensor for name, tensor in tensors.items() if name != first}, "has lora_B, but needs lora_A, lora_B"),
        ({**tensors, "base_model.model.encoder.nowhere.lora_A.weight": torch.zeros(4, 48)}, "matches no linear layer"),
    ):
        save_file(changed, adapter / "adapter_model.safetensors")
        assert refuses(match, adapter, out, **like)
