"""Stage 1 on encoders of every family: what is frozen in which phase, adapters, refusals."""

import pytest
import torch
from encoders.tiny import weights
from finetune.watching import Updates, read_log
from safetensors.torch import load_file

from speechft.encoders import import_checkpoint, load_encoder, random_encoder
from speechft.encoders.families import LEARNED_FAMILIES
from speechft.errors import ConfigError
from speechft.finetune import finetune
from speechft.merge import merge
from speechft.recipes.finetuning import FinetuneRecipe

RECIPE = {"task": "sid", "updates": 4, "batch_size": 4, "validate_every": 4, "head_only": 0.5, "warmup": 0.0, "peak_lr": 1e-3, "early": []}
SIZES = {"whisper": {"max_source_positions": 50}}  # windows of a second
# Parts that no loss reaches: nothing is masked, and transformers' conformers do not use convolutional positions.
UNUSED = ("masked_spec_embed", "pos_conv_embed.")


@pytest.fixture(scope="module", params=LEARNED_FAMILIES)
def start(request, tmp_path_factory):
    family = request.param
    return random_encoder(family, tmp_path_factory.mktemp("start") / "encoder", **SIZES.get(family, {}))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_what_moves_in_which_phase(start, precision, corpus, tmp_path, monkeypatch):
    updates = Updates(monkeypatch)
    finetune(start, FinetuneRecipe(**RECIPE, precision=precision), corpus, tmp_path / "out")
    assert [row["phase"] for row in read_log(tmp_path / "out")] == ["head", "head", "all", "all"]
    encoder = load_encoder(start)
    frozen = set(encoder.extractor_parameter_names())
    names = {name for name, _ in encoder.backbone.named_parameters()}
    assert all(name.startswith("head.") for name in updates.moved(0, 2))
    moved = {name.removeprefix("encoder.backbone.") for name in updates.moved(2, 4) if name.startswith("encoder.")}
    assert not moved & frozen
    still = {name for name in names - frozen - moved if not any(part in name for part in UNUSED)}
    assert len(still) <= 0.1 * len(names), still
    before, after = weights(start), weights(tmp_path / "out")
    assert before.keys() == after.keys()
    buffers = [name for name, _ in encoder.backbone.named_buffers() if name in before]
    assert all(torch.equal(before[name], after[name]) for name in [*frozen, *buffers])
    merge(start, [tmp_path / "out"], tmp_path / "merged", alpha=0.25)
    load_encoder(tmp_path / "merged")


def test_adapters(start, corpus, tmp_path):
    """Of the layers of attention and of feed-forward parts; what peft reads gives the encoder that was written."""
    finetune(start, FinetuneRecipe(**{**RECIPE, "head_only": 0.0}, adapters={"kind": "lora", "rank": 2}), corpus, tmp_path / "out")
    names = {name.split(".")[-3] for name in load_file(tmp_path / "out/adapter/adapter_model.safetensors")}
    attention = {"linear_q", "linear_k", "linear_v", "linear_out"}
    usual = {"q_proj", "k_proj", "v_proj", "out_proj"}
    expected = {
        "wav2vec2-conformer": attention | {"intermediate_dense", "output_dense"},
        "wav2vec2-bert": attention | {"intermediate_dense", "output_dense"},
        "whisper": usual | {"fc1", "fc2"},
    }
    assert names == expected.get(load_encoder(start).family, usual | {"intermediate_dense", "output_dense"})
    import_checkpoint(tmp_path / "out/adapter", tmp_path / "again", like=start)
    torch.testing.assert_close(weights(tmp_path / "again"), weights(tmp_path / "out"), atol=1e-6, rtol=1e-5)


def test_padding_as_in_s3prl_is_refused_before_training(corpus, tmp_path):
    start = random_encoder("unispeech-sat", tmp_path / "start")
    with pytest.raises(ConfigError, match="padding: reference reproduces s3prl"):
        finetune(start, FinetuneRecipe(**RECIPE, padding="reference"), corpus, tmp_path / "out")
    assert list(tmp_path.iterdir()) == [start]
