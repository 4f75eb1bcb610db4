"""Small models as transformers writes them, and comparison of weights."""

import json

import pytest
import torch
from safetensors.torch import load_file

from speechft.encoders import import_checkpoint
from speechft.errors import CheckpointError

WEIGHTS = "model.safetensors"
LARGE = {"do_stable_layer_norm": True, "feat_extract_norm": "layer", "conv_bias": True}
"""What a large model has instead of a base model."""


def build(name, seed=0, **changes):
    """A model of transformers by the name of its class, with random weights."""
    import transformers

    sizes = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 96, "vocab_size": 32}
    sizes |= {"conv_dim": [32] * 7, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4}
    family = name.split("For")[0].removesuffix("Model")
    torch.manual_seed(seed)
    return getattr(transformers, name)(getattr(transformers, f"{family}Config")(**{**sizes, **changes}))


def saved(folder, name, seed=0, **changes):
    """The same, as a directory."""
    build(name, seed, **changes).save_pretrained(folder)
    return folder


def weights(folder):
    return load_file(folder / WEIGHTS)


def bits(tensors):
    return {name: (tensor.dtype, tensor.shape, bytes(tensor.reshape(-1).view(torch.uint8).numpy())) for name, tensor in tensors.items()}


def equal(found, expected):
    """Whether two dicts of tensors are equal bit for bit: zeros of either sign differ."""
    return bits(found) == bits(expected)


def same_weights(first, second):
    """Whether two encoder directories hold equal weights, those only for pre-training included."""
    return all(equal(load_file(first / file), load_file(second / file)) for file in (WEIGHTS, "pretraining_only.safetensors"))


def edit_json(path, **changes):
    before = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**before, **changes}))


def files(folder):
    """Content of all files in a folder, by relative path."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def imported(source, out, **options):
    """The weights of the encoder directory that an import makes."""
    import_checkpoint(source, out, **options)
    return weights(out)


def refuses(message, source, out, **options):
    """Whether import refuses `source` with such a message, leaving nothing at `out`."""
    with pytest.raises(CheckpointError, match=message):
        import_checkpoint(source, out, **options)
    return not out.exists()
