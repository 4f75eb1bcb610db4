import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from speechft.encoders import import_checkpoint, load_encoder, random_encoder

MODELS = ("hubert", "hubert_large", "wav2vec2", "wav2vec2_large", "wavlm", "decoar2")
FAMILIES = ("hubert", "wav2vec2", "wavlm", "decoar2")
# DeCoAR 2.0's checkpoints carry no configuration.
CONFIGS = {"decoar2": {"encoder_attention_heads": 4}}


class Upstream:
    """A recorded model of the reference: its checkpoint, inputs and outputs."""

    def __init__(self, golden, name, folder):
        self.name = name
        self.config = CONFIGS.get(name)
        self.checkpoint = golden / "upstream" / f"{name}.pt"
        content = torch.load(self.checkpoint, weights_only=True)
        self.tensors = content["model_weight" if "model_weight" in content else "model"]
        self.layout = json.loads((golden / "upstream" / f"{name}.config.json").read_text())
        self.outputs = np.load(golden / "upstream" / f"{name}.outputs.npz", allow_pickle=False)
        recorded = np.load(golden / "upstream" / "waveforms.npz", allow_pickle=False)
        self.waveforms = [torch.from_numpy(recorded[f"wav_{index}"]) for index in range(4)]
        self.directory = folder / name
        import_checkpoint(self.checkpoint, self.directory, config=self.config)
        self.encoder = load_encoder(self.directory)


@pytest.fixture(scope="session", params=MODELS)
def upstream(request, golden, tmp_path_factory):
    return Upstream(golden, request.param, tmp_path_factory.mktemp("upstream"))


@pytest.fixture(scope="session")
def hubert(golden, tmp_path_factory):
    return Upstream(golden, "hubert", tmp_path_factory.mktemp("hubert"))


@pytest.fixture(scope="session", params=[*FAMILIES, "hubert_large"])
def tiny_dir(request, tmp_path_factory):
    """A random encoder of each family, and one with LayerNorm everywhere and normalized waveforms."""
    out = tmp_path_factory.mktemp("tiny") / request.param
    if request.param.endswith("_large"):
        sizes = {"extractor_mode": "layer_norm", "layer_norm_first": True, "conv_bias": True}
        return random_encoder(request.param.removesuffix("_large"), out, normalize=True, **sizes)
    return random_encoder(request.param, out)


@pytest.fixture(scope="session")
def tiny_hubert(tmp_path_factory):
    return random_encoder("hubert", tmp_path_factory.mktemp("tiny") / "hubert")


@pytest.fixture
def same_weights():
    """Function that asserts bit-equal weights, pre-training-only ones included, of encoder directories."""

    def check(first, second):
        for file in ("model.safetensors", "pretraining_only.safetensors"):
            left, right = load_file(first / file), load_file(second / file)
            assert left.keys() == right.keys()
            assert all(left[name].dtype == right[name].dtype and torch.equal(left[name], right[name]) for name in left)

    return check


@pytest.fixture
def waveforms_of():
    """Function that makes noise of the given lengths, some with an offset and of different loudness."""

    def make(lengths, seed=0):
        generator = torch.Generator().manual_seed(seed)
        return [
            (0.02 + 0.2 * torch.rand(1, generator=generator)) * torch.randn(length, generator=generator) + 0.05 * (index % 3)
            for index, length in enumerate(lengths)
        ]

    return make
