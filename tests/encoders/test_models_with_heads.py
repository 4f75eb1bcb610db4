"""What fine-tuning with transformers, fairseq and s3prl writes: the encoder is taken, the head is left out."""

import argparse
import logging

import pytest
import torch
from encoders.tiny import LARGE, build, equal, imported, refuses, saved, weights
from safetensors.torch import save_file

from speechft.encoders import export_checkpoint, import_checkpoint, inspect_checkpoint, load_encoder, random_encoder
from speechft.errors import CheckpointError

FOUR = ("ForCTC", "ForSequenceClassification", "ForXVector", "ForAudioFrameClassification")
HEADS = {"Hubert": FOUR[:2], "Wav2Vec2": FOUR, "WavLM": FOUR}


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("family", "head"), [(family, head) for family, heads in HEADS.items() for head in heads])
def test_heads_of_transformers_are_left_out(family, head, weighted, tmp_path, caplog):
    model = build(family + head, use_weighted_layer_sum=weighted)
    model.save_pretrained(tmp_path / "theirs")
    with caplog.at_level(logging.WARNING):
        assert equal(imported(tmp_path / "theirs", tmp_path / "ours"), model.base_model.state_dict())
    assert sum("the head is left out" in line for line in caplog.messages) == 1
    load_encoder(tmp_path / "ours")


@pytest.fixture(params=["hubert", "wav2vec2"])
def fairseq_ctc(request, tmp_path):
    """A pre-trained encoder, and a fine-tuned one inside of a CTC model of fairseq; function that saves it with some configuration."""
    family = request.param
    random_encoder(family, tmp_path / "tuned", seed=1, normalize=True, encoder_attention_heads=2)
    export_checkpoint(tmp_path / "tuned", tmp_path / "tuned.pt", format="fairseq")
    inner = torch.load(tmp_path / "tuned.pt", weights_only=False)
    removed = ("final_proj", "label_embs_concat", "quantizer", "project_q")  # as fairseq removes them for fine-tuning
    tensors = {f"w2v_encoder.w2v_model.{name}": tensor for name, tensor in inner["model"].items() if not name.startswith(removed)}
    tensors |= {"w2v_encoder.proj.weight": torch.zeros(32, 64), "w2v_encoder.proj.bias": torch.zeros(32)}
    cfg = {"task": inner["cfg"]["task"], "model": inner["cfg"]["model"]}

    def save(style):
        outer = {"_name": f"{family.removesuffix('2')}_ctc", "w2v_path": "/elsewhere/base.pt", "normalize": True}
        content = {"model": tensors, "args": None, "cfg": None, "task_state": {"target_dictionary": [1]}}
        if style == "new":
            content["cfg"] = {"model": {**outer, "w2v_args": cfg}, "task": {"_name": "audio_finetuning", "normalize": True}}
        else:
            flat = argparse.Namespace(**{**cfg["model"], "arch": family, "normalize": True}) if style == "old" else None
            content["args"] = argparse.Namespace(**{**outer, "arch": outer["_name"], "w2v_args": flat})
        torch.save(content, tmp_path / f"{style}.pt")
        return tmp_path / f"{style}.pt"

    return tmp_path, save


@pytest.mark.parametrize("style", ["new", "old", "without"])
def test_ctc_models_of_fairseq(fairseq_ctc, style, caplog):
    folder, save = fairseq_ctc
    options = {"like": folder / "tuned"} if style == "without" else {}
    with caplog.at_level(logging.WARNING):
        import_checkpoint(save(style), folder / "ours", **options)
    assert equal(weights(folder / "ours"), weights(folder / "tuned"))
    found, expected = load_encoder(folder / "ours"), load_encoder(folder / "tuned")
    assert found.normalize
    assert found.config.num_attention_heads == expected.config.num_attention_heads == 2
    assert "w2v_encoder.proj.bias" in caplog.text
    assert inspect_checkpoint(folder / f"{style}.pt")["family"] == expected.family
    with pytest.raises(CheckpointError, match="Export with format='transformers'"):
        export_checkpoint(folder / "ours", folder / "out.pt", format="fairseq")


def test_a_ctc_model_that_fairseq_built(tmp_path):
    """The layout above is that of fairseq's own class."""
    pytest.importorskip("fairseq", reason="fairseq is not installed")
    from omegaconf import OmegaConf

    from speechft.fairseq_plugin.trainer import import_fairseq

    import_fairseq()
    from fairseq.models.wav2vec.wav2vec2_asr import Wav2Vec2CtcConfig, Wav2VecCtc, Wav2VecEncoder

    random_encoder("wav2vec2", tmp_path / "base", seed=1)
    export_checkpoint(tmp_path / "base", tmp_path / "base.pt", format="fairseq")
    others = {"distributed_training": {"ddp_backend": "legacy_ddp"}, "common": {"tpu": False}}
    others["checkpoint"] = {"checkpoint_activations": False}
    chosen = OmegaConf.structured(Wav2Vec2CtcConfig(w2v_path=str(tmp_path / "base.pt")))
    cfg = OmegaConf.create({"model": chosen, "task": {"data": "", "normalize": False}, **others})
    model = Wav2VecCtc(cfg.model, Wav2VecEncoder(cfg.model, 5))
    content = OmegaConf.to_container(cfg, enum_to_str=True)
    content["model"]["_name"] = "wav2vec_ctc"
    torch.save({"args": None, "cfg": content, "model": model.state_dict(), "task_state": {}}, tmp_path / "ctc.pt")
    assert equal(imported(tmp_path / "ctc.pt", tmp_path / "ours"), weights(tmp_path / "base"))


@pytest.mark.parametrize("family", ["Hubert", "Wav2Vec2", "WavLM"])
@pytest.mark.parametrize("head", ["Model", "ForCTC"])
def test_runs_of_s3prl_with_upstreams_of_transformers(family, head, tmp_path):
    base, tuned = saved(tmp_path / "base", f"{family}Model", **LARGE), build(family + head, **LARGE)
    run = {"Upstream": {f"model.{name}": tensor for name, tensor in tuned.state_dict().items()}, "Downstream": {}}
    run["Args"] = argparse.Namespace(upstream=f"hf_{family.lower()}_custom")
    torch.save(run, tmp_path / "dev-best.ckpt")
    assert equal(imported(tmp_path / "dev-best.ckpt", tmp_path / "ours", like=base), tuned.base_model.state_dict())
    assert load_encoder(tmp_path / "ours").normalize
    assert refuses("encoder_attention_heads", tmp_path / "dev-best.ckpt", tmp_path / "alone")


@pytest.mark.parametrize("content", [{}, {"Upstream": {}}, {"Upstream": None}])
def test_runs_of_s3prl_with_a_frozen_upstream(content, tmp_path):
    torch.save({**content, "Downstream": {"w": torch.zeros(1)}, "Step": 1}, tmp_path / "dev-best.ckpt")
    assert refuses("which was frozen and not fine-tuned", tmp_path / "dev-best.ckpt", tmp_path / "out")


def test_bare_weights_with_the_configuration_of_their_base(tmp_path):
    model = build("HubertForCTC")
    torch.save(model.state_dict(), tmp_path / "tuned.bin")
    assert equal(
        imported(tmp_path / "tuned.bin", tmp_path / "ours", like=saved(tmp_path / "base", "HubertModel")), model.base_model.state_dict()
    )


def test_weights_that_are_not_those_of_the_provenance(tmp_path):
    for seed in (0, 1):
        random_encoder("hubert", tmp_path / str(seed), seed=seed)
    tensors = weights(tmp_path / "1")
    save_file(tensors, tmp_path / "0/model.safetensors", metadata={"format": "pt"})
    assert refuses(r"remove provenance\.json and import the directory", tmp_path / "0", tmp_path / "out")
    (tmp_path / "0/provenance.json").unlink()
    assert equal(imported(tmp_path / "0", tmp_path / "out"), tensors)
