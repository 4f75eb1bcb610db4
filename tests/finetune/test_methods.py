"""The ways of fine-tuning: schedule and freezing against the released code; which parameters each method moves, and when."""

import json
import re

import pytest
import torch
from conftest import ROOT
from finetune.watching import Updates, differing, read_log
from peft import PeftModel
from safetensors.torch import load_file

from speechft.encoders import import_checkpoint, load_encoder
from speechft.encoders.directory.random_encoders import random_encoder
from speechft.errors import CheckpointError, ConfigError
from speechft.fairseq_plugin.trainer import import_fairseq
from speechft.files.hashes import sha256_file
from speechft.finetune import finetune
from speechft.finetune.early import take_early
from speechft.finetune.method import frozen_parameters, head_only_updates, multiplier
from speechft.recipes.finetuning import FinetuneRecipe
from speechft.recipes.values import validate

RECIPE = {"task": "sid", "updates": 10, "batch_size": 6, "validate_every": 5, "peak_lr": 2e-3, "seed": 3}
METHODS = {
    "stable_ft": {},
    "plain_ft": {"head_only": 0.0, "freeze_extractor": False},
    "no_head_phase": {"head_only": 0.0},
    "extractor_learns": {"freeze_extractor": False},
    "no_warmup": {"warmup": 0.0, "hold": 0.5},
    "l2": {"l2": 100.0},
    "lora": {"adapters": {"kind": "lora"}},
    "dora": {"adapters": {"kind": "dora"}},
}
BASE = {"encoder_layers": 12, "encoder_embed_dim": 768, "encoder_ffn_embed_dim": 3072, "encoder_attention_heads": 12}
BASE |= {"conv_feature_layers": "[(512,10,5)] + [(512,3,2)] * 4 + [(512,2,2)] * 2", "conv_pos": 128, "conv_pos_groups": 16}


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


def recipe(changes):
    return validate(FinetuneRecipe, {**RECIPE, **changes}, "test")


@pytest.fixture(scope="module")
def runs(theta0, corpus, tmp_path_factory):
    """Method -> what moved in the first update after the first (whose rate is 0) and in all."""
    found = {}
    for name, changes in METHODS.items():
        out = tmp_path_factory.mktemp(name) / "out"
        with pytest.MonkeyPatch.context() as patch:
            updates = Updates(patch)
            finetune(theta0, recipe({**changes, "updates": 20}), corpus, out)
        found[name] = (out, updates)
    return found


def learns(name):
    """Whether a tensor of the encoder has a gradient at all: no mask is applied, and a bias of the keys cancels in the softmax."""
    return name != "masked_spec_embed" and not name.endswith(("k_proj.bias", "k_proj.base_layer.bias"))


@pytest.mark.parametrize("name", METHODS)
def test_exactly_what_should_move_moves(name, runs, theta0):
    _, updates = runs[name]
    encoder = load_encoder(theta0)
    own = {key for key, _ in encoder.backbone.named_parameters()}
    extractor = set(encoder.extractor_parameter_names())
    adapted = {key for key in updates.encoder(0) if "lora_" in key}
    assert bool(adapted) == (name in ("lora", "dora"))
    expected = adapted or own - (set() if METHODS[name].get("freeze_extractor") is False else extractor)
    moved = differing(updates.encoder(0), updates.encoder(20))
    assert {key for key in moved if learns(key)} == {key for key in expected if learns(key)}
    # The head phase is of two updates.
    assert any(key.startswith("head.") for key in updates.moved(0, 2))
    assert bool(differing(updates.encoder(0), updates.encoder(2))) == (METHODS[name].get("head_only") == 0.0)
    assert differing(updates.encoder(2), updates.encoder(3))


def test_every_adapter_gets_a_gradient(runs):
    for name in ("lora", "dora"):
        _, updates = runs[name]
        adapted = {key for key in updates.states[0] if "lora_" in key}
        # 2 layers of 6 matrices, with two factors each, and a vector of norms.
        assert len(adapted) == 2 * 6 * (2 if name == "lora" else 3)
        assert not any("lora_" in key for key in updates.gradients[1])
        # The first factor has no gradient before the second has moved away from zero.
        for key in adapted:
            assert updates.gradients[10][key].abs().max() > 0, key


@pytest.mark.parametrize("kind", ["lora", "dora"])
@pytest.mark.parametrize("family", ["hubert", "wav2vec2", "wavlm", "decoar2"])
def test_merged_encoder_equals_the_adapted_one_in_memory_of_peft_and_of_import(kind, family, corpus, tmp_path, monkeypatch):
    base, out = random_encoder(family, tmp_path / "base", seed=1), tmp_path / "out"
    updates = Updates(monkeypatch)
    changes = {"adapters": {"kind": kind, "rank": 4}, "head_only": 0.0, "peak_lr": 2e-2, "updates": 6, "validate_every": 6, "early": [0.5]}
    finetune(base, recipe(changes), corpus, out)
    waveforms = [torch.randn(8000, generator=torch.Generator().manual_seed(seed)) for seed in range(2)]
    encoders = (load_encoder(base), load_encoder(out), updates.model.encoder.eval())
    with torch.no_grad():
        before, after, expected = (encoder.encode(waveforms).hidden_states[-1] for encoder in encoders)
    torch.testing.assert_close(after, expected, atol=1e-5, rtol=0)
    assert (after - before).abs().max() > 1e-2
    for folder in (out, out / "early/0.50"):
        weights = load_file(folder / "model.safetensors")
        merged = PeftModel.from_pretrained(load_encoder(base).backbone, folder / "adapter").merge_and_unload().state_dict()
        assert merged.keys() == weights.keys()
        for name, tensor in weights.items():
            torch.testing.assert_close(merged[name], tensor, atol=1e-6, rtol=1e-5)
        import_checkpoint(folder / "adapter", tmp_path / "imported", like=base)
        torch.testing.assert_close(load_file(tmp_path / "imported/model.safetensors"), weights, atol=1e-6, rtol=1e-5)


def test_penalty_is_lambda_times_the_squared_distance(runs, theta0):
    def distance(weights):
        return sum(float((weights[name] - tensor).square().sum()) for name, tensor in start.items())

    start = {name: tensor.detach() for name, tensor in load_encoder(theta0).backbone.named_parameters()}
    out, updates = runs["l2"]
    rows = read_log(out)
    for row in rows:
        assert float(row["penalty"]) == pytest.approx(100 * distance(updates.encoder(int(row["update"]) - 1)), rel=1e-2, abs=1e-3)
    assert float(rows[-1]["penalty"]) > 0
    plain, without = runs["stable_ft"]
    assert "penalty" not in read_log(plain)[0]
    assert distance(updates.encoder(20)) < 0.5 * distance(without.encoder(20))


def test_early_checkpoint_is_the_encoder_of_that_update_of_the_same_run(runs, tmp_path):
    out, updates = runs["stable_ft"]
    assert not differing(dict(load_encoder(out / "early/0.20").backbone.named_parameters()), updates.encoder(4))
    assert json.loads((out / "early/0.20/provenance.json").read_text())["recipe"]["stopped_after_updates"] == 4
    take_early(out, 0.2, tmp_path / "early20")
    assert sha256_file(tmp_path / "early20/model.safetensors") == sha256_file(out / "early/0.20/model.safetensors")
    load_encoder(tmp_path / "early20")
    with pytest.raises(CheckpointError, match=r"existing early checkpoints: 0\.20\. Fine-tune with `early: \[0\.3\]`"):
        take_early(out, 0.3, tmp_path / "early30")


def test_adapters_do_not_go_with_what_moves_the_encoder_itself(theta0, corpus, tmp_path):
    for changes in ({"l2": 0.1}, {"freeze_extractor": False}):
        with pytest.raises(ConfigError, match="adapters keep the encoder's weights frozen"):
            recipe({"adapters": {"kind": "lora"}, **changes})
    with pytest.raises(ConfigError, match=r"adapters\.targets: nothing_there do not fit"):
        finetune(theta0, recipe({"adapters": {"kind": "lora", "targets": ["nothing_there"]}}), corpus, tmp_path / "out")


def test_the_table_of_methods_in_the_guide_is_true(tmp_path):
    """Rows: method, tensors and parameters of HuBERT Base that may move in the first tenth of the updates, and after it."""
    import_fairseq()
    from speechft.fairseq_plugin.model import EncoderWithHead

    base = random_encoder("hubert", tmp_path / "base", **BASE)
    rows = []
    for name, changes in METHODS.items():
        chosen, encoder = recipe(changes), load_encoder(base)
        model = EncoderWithHead(encoder, {"sid": torch.nn.Identity()}, chosen)
        cells = []
        for completed in (0, chosen.updates - 1):
            model.freeze_for(completed, head_only_updates(chosen.updates, chosen.head_only))
            # The mask embedding is free, but nothing is masked.
            free = [p.numel() for key, p in encoder.backbone.named_parameters() if p.requires_grad and key != "masked_spec_embed"]
            cells.append(f"{len(free)} tensors, {sum(free) / 1e6:.2f} M" if free else "none")
        rows.append((name, *cells))
    text = (ROOT / "docs/finetuning.md").read_text()
    found = re.findall(r"^\| `(\w+)` \|[^|]*\| ([^|]*?) \| ([^|]*?) \|$", text, re.M)
    assert found == rows, "\n".join(f"| `{row[0]}` | | {row[1]} | {row[2]} |" for row in rows)


def test_without_adapters_there_is_no_folder_of_one(runs):
    assert {name for name, (out, _) in runs.items() if (out / "adapter").exists()} == {"lora", "dora"}


def test_a_directory_of_transformers_is_fine_tuned_as_what_import_makes_of_it(corpus, tmp_path):
    large = {"extractor_mode": "layer_norm", "layer_norm_first": True, "conv_bias": True}
    random_encoder("hubert", tmp_path / "theirs", seed=1, normalize=True, **large)
    for file in ("provenance.json", "preprocessor_config.json", "pretraining_only.safetensors", "source_config.json"):
        (tmp_path / "theirs" / file).unlink()
    config = json.loads((tmp_path / "theirs/config.json").read_text())
    del config["speechft_normalize"]
    (tmp_path / "theirs/config.json").write_text(json.dumps(config))
    import_checkpoint(tmp_path / "theirs", tmp_path / "ours")
    for name in ("theirs", "ours"):
        finetune(tmp_path / name, recipe({"head_only": 0.0}), corpus, tmp_path / f"{name}_tuned")
    for file in ("model.safetensors", "config.json"):
        assert sha256_file(tmp_path / "theirs_tuned" / file) == sha256_file(tmp_path / "ours_tuned" / file)
