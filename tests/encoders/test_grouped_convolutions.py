"""bf16 on a CPU: grouped convolutions with few channels a group, which oneDNN gets wrong on some processors."""

import copy

import pytest
import torch

from speechft.encoders import load_encoder, random_encoder
from speechft.encoders.grouped_convolutions import keep_grouped_convolutions_exact


@pytest.mark.parametrize("kernel", [16, 128])
def test_they_are_computed_in_float32(kernel):
    layer = torch.nn.Conv1d(192, 192, kernel, groups=16)
    keep_grouped_convolutions_exact(layer)
    waves = torch.randn(2, 192, 200)
    expected = layer(waves)
    with torch.autocast("cpu", torch.bfloat16):
        for module in (layer, copy.deepcopy(layer)):
            assert torch.equal(module(waves.bfloat16().float()), layer(waves.bfloat16().float()))
            assert torch.equal(module(waves), expected)


def test_bf16_differs_from_fp32_by_rounding_alone(tmp_path):
    sizes = {"encoder_embed_dim": 192, "conv_pos": 128, "conv_pos_groups": 16}
    encoder = load_encoder(random_encoder("hubert", tmp_path / "encoder", **sizes))
    waves = [torch.randn(16_000)]
    with torch.no_grad():
        exact = encoder.encode(waves).hidden_states[0]
        with torch.autocast("cpu", torch.bfloat16):
            rounded = encoder.encode(waves).hidden_states[0].float()
    assert not torch.equal(exact, rounded)
    assert (exact - rounded).abs().max() < 0.05 * exact.abs().max()
