import json

import pytest
import torch

from speechft.finetune.method import freeze, frozen_parameters, head_only_updates


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


def test_freeze_sets_exactly_the_rest_trainable():
    module = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))
    freeze(module, {"0.weight", "0.bias"})
    assert [parameter.requires_grad for parameter in module.parameters()] == [False, False, True, True]
    freeze(module, {"1.bias"})
    assert [parameter.requires_grad for parameter in module.parameters()] == [True, True, True, False]
