"""Adapters that peft wrote are merged into the encoder that they belong to."""

import json
import logging

import peft
import pytest
import torch
from encoders.tiny import build, edit_json, weights
from safetensors.torch import load_file, save_file

from speechft.encoders import import_checkpoint, inspect_checkpoint
from speechft.errors import CheckpointError
from speechft.merge import merge


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
def test_equals_what_peft_merges(head, options, tmp_path, caplog):
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


def test_weights_as_a_pickle_and_inspection(tmp_path):
    expected = trained(tmp_path)
    tensors = load_file(tmp_path / "adapter/adapter_model.safetensors")
    (tmp_path / "adapter/adapter_model.safetensors").unlink()
    torch.save(tensors, tmp_path / "adapter/adapter_model.bin")
    import_checkpoint(tmp_path / "adapter", tmp_path / "ours", like=tmp_path / "base")
    torch.testing.assert_close(weights(tmp_path / "ours"), expected, atol=1e-6, rtol=1e-5)
    seen = inspect_checkpoint(tmp_path / "adapter")
    assert (seen["format"], seen["tensors"]) == ("peft", len(tensors))


def test_refusals(tmp_path):
    trained(tmp_path)
    adapter, base, out = tmp_path / "adapter", tmp_path / "base", tmp_path / "out"

    def refused(match, **options):
        with pytest.raises(CheckpointError, match=match):
            import_checkpoint(adapter, out, **options)
        assert not out.exists()

    refused("LoRA adapter .peft. without the model.*--base")
    refused("holds a hubert model, not wavlm", like=base, family="wavlm")
    refused("Leave `format` and `config` out", like=base, config={"normalize": True})
    path = adapter / "adapter_config.json"
    config = path.read_text()
    for changes, match in (
        ({"peft_type": "IA3"}, "peft_type 'IA3' is not supported.*merge_and_unload"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights='pissa' is not supported"),
        ({"layer_replication": [[0, 2]]}, "layer_replication"),
        ({"lora_alpha": "8"}, "no number"),
        ({"alpha_pattern": {"(a+)+$": 1}}, "alpha_pattern"),
    ):
        edit_json(path, **changes)
        refused(match, like=base)
        path.write_text(config)
    path.write_text("[1]")
    refused("no configuration of an adapter", like=base)
    path.write_text(config)
    tensors = load_file(adapter / "adapter_model.safetensors")
    first = next(name for name in tensors if name.endswith("q_proj.lora_A.weight"))
    for changed, match in (
        ({**tensors, first: torch.zeros(4, 40)}, "does not fit"),
        ({name: tensor for name, tensor in tensors.items() if name != first}, "has lora_B, it needs lora_A, lora_B"),
        ({**tensors, "base_model.model.encoder.nowhere.lora_A.weight": torch.zeros(4, 48)}, "fits no linear layer"),
    ):
        save_file(changed, adapter / "adapter_model.safetensors")
        refused(match, like=base)
