import json

import numpy as np
import pytest
import torch

from speechft.encoders import import_checkpoint, load_encoder, random_encoder

MODELS = ("hubert", "hubert_large", "wav2vec2", "wav2vec2_large", "wavlm", "decoar2")
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


@pytest.fixture(scope="session", params=["hubert", "wav2vec2", "wavlm", "decoar2", "hubert_large"])
def tiny_dir(request, tmp_path_factory):
    """A random encoder of each family, and one with LayerNorm everywhere and normalized waveforms."""
    family, _, large = request.param.partition("_")
    sizes = {"extractor_mode": "layer_norm", "layer_norm_first": True, "conv_bias": True} if large else {}
    return random_encoder(family, tmp_path_factory.mktemp("tiny") / request.param, normalize=bool(large), **sizes)


@pytest.fixture(scope="session")
def tiny_hubert(tmp_path_factory):
    return random_encoder("hubert", tmp_path_factory.mktemp("tiny") / "hubert")


@pytest.fixture(scope="session")
def waveforms_of():
    """Function that makes noise of the given lengths, some with an offset and of different loudness."""

    def make(lengths, seed=0):
        generator = torch.Generator().manual_seed(seed)
        return [
            (0.02 + 0.2 * torch.rand(1, generator=generator)) * torch.randn(length, generator=generator) + 0.05 * (index % 3)
            for index, length in enumerate(lengths)
        ]

    return make
