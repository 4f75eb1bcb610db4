"""Schedule and freezing, against the released code."""

import json

import pytest
import torch

from speechft.finetune.method import frozen_parameters, head_only_updates, multiplier


@pytest.mark.parametrize("total", [10, 37, 1000])
def test_multipliers_are_those_of_the_released_code(total, golden):
    expected = json.loads((golden / "speechft/schedule.json").read_text())["multiplier"][str(total)]
    assert [multiplier(k, total) for k in range(total + 3)] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("warmup", "hold", "expected"), [(0.0, 0.0, [1, 0.75, 0.5, 0.25]), (0.5, 0.5, [0, 0.5, 1, 1]), (0.0, 1.0, [1] * 4)]
)
def test_phases_may_be_empty(warmup, hold, expected):
    assert [multiplier(k, 4, warmup, hold) for k in range(4)] == pytest.approx(expected)


@pytest.mark.parametrize("family", ["hubert", "wavlm", "wav2vec2", "decoar2"])
def test_what_is_frozen_equals_the_released_code(family, golden):
    content = torch.load(golden / f"upstream/{family}.pt", weights_only=True)
    names = list(content["model_weight" if "model_weight" in content else "model"])
    extractor = {name for name in names if name.startswith("feature_extractor")}
    records = [record for record in json.loads((golden / "speechft/require_grad.json").read_text()) if record["upstream"] == family]
    assert len(records) == 16
    for record in records:
        assert record["n_parameters"] == len(names)
        # wav2vec2 and decoar2 have the head-only phase whatever the switch says.
        head_only = record["finetune_step"] if record["lpft_or_not"] or family in ("wav2vec2", "decoar2") else 0
        frozen = frozen_parameters(names, extractor, record["global_step"], head_only, record["freeze_conv_layer"])
        assert frozen == (set(names) if record["frozen"] == "all" else set(record["frozen"])), record


def test_head_only_share_is_rounded_down():
    assert [head_only_updates(total, 0.1) for total in (9, 10, 37, 50_000)] == [0, 1, 3, 5000]
