"""Merging what transformers wrote: the same as merging what import makes of it."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from speechft.encoders import export_checkpoint, import_checkpoint, random_encoder, store_encoder
from speechft.errors import SpeechFTError
from speechft.merge import merge

WEIGHTS = "model.safetensors"
LARGE = {"do_stable_layer_norm": True, "feat_extract_norm": "layer", "conv_bias": True}


def save(folder, seed, head="HubertModel", dtype=torch.float32, **changes):
    import transformers

    sizes = {"hidden_size": 48, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 64, "conv_dim": [32] * 7}
    sizes |= {"num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4}
    family = head.split("For")[0].removesuffix("Model")
    torch.manual_seed(seed)
    model = getattr(transformers, head)(getattr(transformers, f"{family}Config")(**sizes, **changes))
    model.to(dtype).save_pretrained(folder)
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
    base, tuned = save(tmp_path / "base", 0), save(tmp_path / "tuned", 1, dtype=dtype)
    merge(base, tuned, tmp_path / "merged", alpha=0.25)
    found, theirs, ours = (load_file(folder / WEIGHTS) for folder in (tmp_path / "merged", base, tuned))
    for name, tensor in found.items():
        assert tensor.dtype == torch.float32
        torch.testing.assert_close(tensor, 0.75 * theirs[name] + 0.25 * ours[name].float(), rtol=1e-6, atol=1e-7)
    half = save(tmp_path / "half", 0, dtype=dtype)
    merge(half, tuned, tmp_path / "both")
    assert {tensor.dtype for tensor in load_file(tmp_path / "both" / WEIGHTS).values()} == {dtype}
    full = save(tmp_path / "full", 1)
    merge(half, full, tmp_path / "precise")
    assert {tensor.dtype for tensor in load_file(tmp_path / "precise" / WEIGHTS).values()} == {torch.float32}


def test_a_stored_copy_is_merged_in_float32(tmp_path):
    for seed, name in enumerate(("base", "tuned")):
        random_encoder("hubert", tmp_path / name, seed=seed)
    store_encoder(tmp_path / "tuned", tmp_path / "stored", "fp16")
    merge(tmp_path / "base", tmp_path / "stored", tmp_path / "merged", alpha=1.0)
    found, expected = load_file(tmp_path / "merged" / WEIGHTS), load_file(tmp_path / "stored" / WEIGHTS)
    assert all(tensor.dtype == torch.float32 and torch.equal(tensor, expected[name].float()) for name, tensor in found.items())


@pytest.mark.parametrize("layout", ["copy", "fp16", "bf16", "s3prl", "bare", "head"])
def test_a_copy_of_the_base_in_any_layout(layout, tmp_path):
    base = random_encoder("hubert", tmp_path / "base")
    copy = tmp_path / "twin"
    if layout == "copy":
        shutil.copytree(base, copy)
    elif layout == "s3prl":
        export_checkpoint(base, copy, format="s3prl")
    elif layout in ("fp16", "bf16"):
        store_encoder(base, copy, layout)
    else:
        shutil.copytree(base, copy)
        (copy / "provenance.json").unlink()
        prefix, head = ("hubert.", {"lm_head.bias": torch.zeros(3)}) if layout == "head" else ("", {})
        tensors = {prefix + name: tensor for name, tensor in load_file(base / WEIGHTS).items()} | head
        save_file(tensors, copy / WEIGHTS, metadata={"format": "pt"})
    refused(base, copy, tmp_path / "merged", "has the same weights as .*base, so nothing was fine-tuned")
    tuned = random_encoder("hubert", tmp_path / "tuned", seed=1)
    refused(base, [tuned, copy], tmp_path / "merged", "twin.* has the same weights")


@pytest.mark.parametrize("lacking", ["base", "tuned"])
def test_a_mask_embedding_on_one_side(lacking, tmp_path, caplog):
    without = {"mask_time_prob": 0.0, "mask_feature_prob": 0.0}
    base, tuned = (save(tmp_path / name, seed, **(without if name == lacking else {})) for seed, name in enumerate(("base", "tuned")))
    merge(base, tuned, tmp_path / "merged")
    found, ours = load_file(tmp_path / "merged" / WEIGHTS), load_file(base / WEIGHTS)
    assert found.keys() == ours.keys()
    assert ("masked_spec_embed" in found) == (lacking == "tuned")
    if lacking == "tuned":
        assert torch.equal(found["masked_spec_embed"], ours["masked_spec_embed"])
    assert sum("masked_spec_embed" in line for line in caplog.messages) == 1
    from transformers import AutoModel

    assert AutoModel.from_pretrained(tmp_path / "merged").state_dict().keys() == found.keys()


def test_what_import_refuses(tmp_path):
    import transformers

    base = save(tmp_path / "base", 0)
    for changes in ({"add_adapter": True}, {"conv_pos_batch_norm": True}, {"adapter_attn_dim": 4}):
        other = tmp_path / next(iter(changes))
        shutil.copytree(base, other)
        config = json.loads((other / "config.json").read_text())
        (other / "config.json").write_text(json.dumps({**config, **changes}))
        refused(base, other, tmp_path / "merged", "are not supported")
        refused(other, base, tmp_path / "merged", "are not supported")
        # The same in a directory of ours that was changed by hand.
        (other / "config.json").write_text(json.dumps({**config, **changes, "speechft_normalize": False}))
        refused(other, base, tmp_path / "merged", "are not supported")
    sizes = {"hidden_size": 48, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 64, "conv_dim": [32] * 7}
    for seed in (0, 1):
        torch.manual_seed(seed)
        transformers.Data2VecAudioModel(transformers.Data2VecAudioConfig(**sizes)).save_pretrained(tmp_path / f"data2vec{seed}")
    refused(tmp_path / "data2vec0", tmp_path / "data2vec1", tmp_path / "merged", "data2vec-audio' is no encoder family")
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts/config.json").write_text('{"model_type": "bert"}')
    shutil.copy(base / WEIGHTS, tmp_path / "texts")
    refused(base, tmp_path / "texts", tmp_path / "merged", "'bert' is no encoder family")
