"""Merging what transformers wrote: the same as merging what import makes of it."""

import json
import shutil

import pytest
import torch
import transformers
from encoders.tiny import LARGE, WEIGHTS, build, equal, weights
from safetensors.torch import save_file

from speechft.encoders import export_checkpoint, import_checkpoint, random_encoder, store_encoder
from speechft.errors import SpeechFTError
from speechft.merge import merge


def save(folder, seed, head="HubertModel", dtype=torch.float32, **changes):
    build(head, seed, num_hidden_layers=1, **changes).to(dtype).save_pretrained(folder)
    return folder


def refused(base, finetuned, out, match):
    with pytest.raises(SpeechFTError, match=match):
        merge(base, finetuned, out)
    assert not out.exists()


@pytest.mark.parametrize("head", ["HubertModel", "HubertForCTC", "Wav2Vec2ForSequenceClassification", "WavLMForXVector"])
@pytest.mark.parametrize("large", [True, False])
def test_bare_directories_are_what_import_makes_of_them(head, large, tmp_path):
    changes = LARGE if large else {}
    base = save(tmp_path / "base", 0, head.split("For")[0].removesuffix("Model") + "Model", **changes)
    tuned = save(tmp_path / "tuned", 1, head, **changes)
    merge(base, tuned, tmp_path / "a/direct")
    import_checkpoint(base, tmp_path / "i/base")
    import_checkpoint(tuned, tmp_path / "i/tuned")
    merge(tmp_path / "i/base", tmp_path / "i/tuned", tmp_path / "b/direct")
    for file in (WEIGHTS, "config.json", "preprocessor_config.json", "pretraining_only.safetensors"):
        assert (tmp_path / "a/direct" / file).read_bytes() == (tmp_path / "b/direct" / file).read_bytes(), file
    assert json.loads((tmp_path / "a/direct/config.json").read_text())["speechft_normalize"] is large
    inputs = json.loads((tmp_path / "a/direct/provenance.json").read_text())["inputs"]
    assert [inputs[role]["name"] for role in ("base", "finetuned_0")] == ["base", "tuned"]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_of_either_side(dtype, tmp_path):
    base, tuned, half, full = (
        save(tmp_path / name, seed, dtype=kind)
        for name, seed, kind in (("base", 0, torch.float32), ("tuned", 1, dtype), ("half", 0, dtype), ("full", 1, torch.float32))
    )
    merge(base, tuned, tmp_path / "merged", alpha=0.25)
    ours, theirs = weights(base), weights(tuned)
    expected = {name: 0.75 * tensor + 0.25 * theirs[name].float() for name, tensor in ours.items()}
    torch.testing.assert_close(weights(tmp_path / "merged"), expected, rtol=1e-6, atol=1e-7)
    for finetuned, stored in ((tuned, dtype), (full, torch.float32)):
        merge(half, finetuned, tmp_path / "other")
        assert {tensor.dtype for tensor in weights(tmp_path / "other").values()} == {stored}


def test_stored_copies_are_merged_in_float32(encoders, tmp_path):
    for name in ("base", "first"):
        store_encoder(encoders / name, tmp_path / name)
    for base, finetuned in ((encoders / "base", tmp_path / "first"), (tmp_path / "base", encoders / "first")):
        merge(base, finetuned, tmp_path / "merged", alpha=1.0)
        assert equal(weights(tmp_path / "merged"), {name: tensor.float() for name, tensor in weights(finetuned).items()})


@pytest.mark.parametrize("layout", ["copy", "fp16", "bf16", "s3prl", "bare", "head"])
def test_a_copy_of_the_base_in_any_layout(layout, encoders, tmp_path):
    base, copy = encoders / "base", tmp_path / "twin"
    if layout == "s3prl":
        export_checkpoint(base, copy, format="s3prl")
    elif layout in ("fp16", "bf16"):
        store_encoder(base, copy, layout)
    else:
        shutil.copytree(base, copy)
    if layout in ("bare", "head"):
        (copy / "provenance.json").unlink()
        prefix, head = ("hubert.", {"lm_head.bias": torch.zeros(3)}) if layout == "head" else ("", {})
        tensors = {prefix + name: tensor for name, tensor in weights(base).items()} | head
        save_file(tensors, copy / WEIGHTS, metadata={"format": "pt"})
    refused(base, copy, tmp_path / "merged", "has the same weights as .*base, so nothing was fine-tuned")
    refused(base, [encoders / "first", copy], tmp_path / "merged", "twin.* has the same weights")


@pytest.mark.parametrize("lacking", ["base", "tuned"])
def test_a_mask_embedding_on_one_side(lacking, tmp_path, caplog):
    without = {"mask_time_prob": 0.0, "mask_feature_prob": 0.0}
    base, tuned = (save(tmp_path / name, seed, **(without if name == lacking else {})) for seed, name in enumerate(("base", "tuned")))
    merge(base, tuned, tmp_path / "merged")
    found, ours = weights(tmp_path / "merged"), weights(base)
    assert found.keys() == ours.keys()
    assert ("masked_spec_embed" in found) == (lacking == "tuned")
    if lacking == "tuned":
        assert torch.equal(found["masked_spec_embed"], ours["masked_spec_embed"])
    assert sum("masked_spec_embed" in line for line in caplog.messages) == 1
    assert transformers.AutoModel.from_pretrained(tmp_path / "merged").state_dict().keys() == found.keys()


def test_what_import_refuses(tmp_path):
    base, other, out = save(tmp_path / "base", 0), save(tmp_path / "other", 1, add_adapter=True), tmp_path / "merged"
    refused(base, other, out, "are not supported")
    refused(other, base, out, "are not supported")
    for name in ("theirs", "tuned"):
        config = transformers.Data2VecAudioConfig(hidden_size=48, num_hidden_layers=1, num_attention_heads=4, conv_dim=[32] * 7)
        transformers.Data2VecAudioModel(config).save_pretrained(tmp_path / name)
    refused(tmp_path / "theirs", tmp_path / "tuned", out, "data2vec-audio' is no encoder family")
    (base / "config.json").write_text('{"model_type": "bert"}')
    refused(random_encoder("hubert", tmp_path / "hubert"), base, out, "'bert' is no encoder family")
