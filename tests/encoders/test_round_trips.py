"""Import -> export -> import, over all families and formats."""

import json
import logging

import pytest
import torch
from safetensors.torch import load_file, save_file

from speechft.encoders import export_checkpoint, import_checkpoint, inspect_checkpoint, load_encoder
from speechft.errors import CheckpointError

FAIRSEQ = ("hubert", "hubert_large", "wav2vec2", "wav2vec2_large")


def test_every_tensor_of_the_source_is_kept_bit_for_bit(upstream):
    """s3prl's layout out again holds exactly the recorded tensors, names and configuration."""
    out = upstream.directory.parent / "again.pt"
    export_checkpoint(upstream.directory, out, format="s3prl")
    content = torch.load(out, weights_only=True)
    assert content.keys() == upstream.layout["checkpoint_layout"].keys()
    tensors = content["model_weight" if "model_weight" in content else "model"]
    assert tensors.keys() == upstream.tensors.keys()
    assert all(torch.equal(tensors[name], upstream.tensors[name]) for name in tensors)
    for section in ("task_cfg", "model_cfg", "dictionaries_symbols", "cfg"):
        assert content.get(section) == upstream.layout.get(section)


@pytest.mark.parametrize("format", ["fairseq", "s3prl", "transformers"])
def test_round_trip(upstream, format, same_weights):
    folder = upstream.directory.parent
    if format == "fairseq" and upstream.name not in FAIRSEQ:
        with pytest.raises(CheckpointError, match=r"fairseq has no .* model.*s3prl"):
            export_checkpoint(upstream.directory, folder / "out", format=format)
        return
    export_checkpoint(upstream.directory, folder / format, format=format)
    config = upstream.config if format == "s3prl" else None
    import_checkpoint(folder / format, folder / "back", config=config)
    same_weights(upstream.directory, folder / "back")
    assert (folder / "back" / "config.json").read_text() == (upstream.directory / "config.json").read_text()
    if format != "fairseq":
        assert (folder / "back" / "source_config.json").read_text() == (upstream.directory / "source_config.json").read_text()


def test_transformers_loads_the_directory_with_nothing_missing(upstream):
    from transformers import AutoModel

    import speechft.encoders.decoar2  # noqa: F401 - makes the family known

    for directory in (upstream.directory, upstream.directory.parent / "exported"):
        if not directory.exists():
            export_checkpoint(upstream.directory, directory, format="transformers")
        model, info = AutoModel.from_pretrained(directory, output_loading_info=True, local_files_only=True)
        assert not any(info.values())
        assert not model.config.layerdrop
        stored = load_file(directory / "model.safetensors")
        assert all(torch.equal(tensor, stored[name]) for name, tensor in model.state_dict().items())


def test_counts_are_logged(hubert, tmp_path, caplog):
    with caplog.at_level(logging.INFO, logger="speechft"):
        import_checkpoint(hubert.checkpoint, tmp_path / "out")
    assert "70 tensors: 67 of the encoder, 3 only for pre-training" in caplog.text
    assert load_file(tmp_path / "out" / "pretraining_only.safetensors").keys() == {
        "final_proj.weight",
        "final_proj.bias",
        "label_embs_concat",
    }


def test_family_and_format_may_be_given_and_are_checked(upstream, tmp_path):
    family = upstream.encoder.family
    format = upstream.name if upstream.name in ("wavlm", "decoar2") else "s3prl"
    import_checkpoint(upstream.checkpoint, tmp_path / "out", family=family, format=format, config=upstream.config)
    with pytest.raises(CheckpointError, match=f"is a {format} checkpoint, not s3prl_run"):
        import_checkpoint(upstream.checkpoint, tmp_path / "out", format="s3prl_run", config=upstream.config)
    wrong = "hubert" if family != "hubert" else "wavlm"
    with pytest.raises(CheckpointError, match=f"holds a {family} model, not {wrong}"):
        import_checkpoint(upstream.checkpoint, tmp_path / "out", family=wrong, config=upstream.config)


def test_s3prl_run_checkpoints(upstream, tmp_path, same_weights):
    """A fine-tuned upstream as s3prl's runner saves it; it carries no configuration of the model."""
    from argparse import Namespace

    prefix = {"hubert": "", "wavlm": "module.model."}.get(upstream.name, "model.")
    state = {prefix + name: tensor for name, tensor in upstream.tensors.items()}
    run = {
        "Upstream": state,
        "Step": 7,
        "Args": Namespace(upstream=upstream.encoder.family),
        "Config": {},
        "Featurizer": {},
        "Downstream": {},
    }
    torch.save(run, tmp_path / "dev-best.ckpt")
    config = {"encoder_attention_heads": 4}
    if upstream.encoder.family == "wavlm":
        config["max_distance"] = 48
    import_checkpoint(tmp_path / "dev-best.ckpt", tmp_path / "out", config=config)
    same_weights(upstream.directory, tmp_path / "out")
    with torch.inference_mode():
        found, expected = (model.encode(upstream.waveforms).hidden_states for model in (load_encoder(tmp_path / "out"), upstream.encoder))
    assert all(torch.equal(left, right) for left, right in zip(found, expected, strict=True))
    # What it lacks is completed from its tensors, so that it can be given back.
    export_checkpoint(tmp_path / "out", tmp_path / "back.pt", format="s3prl")


def test_bare_state_dicts(upstream, tmp_path, same_weights):
    """Tensors alone, under the names of fairseq, as safetensors or as a pickled dict."""
    config = {"encoder_attention_heads": 4, **({"max_distance": 48} if upstream.name == "wavlm" else {})}
    torch.save({f"model.{name}": tensor for name, tensor in upstream.tensors.items()}, tmp_path / "bare.pt")
    save_file(upstream.tensors, tmp_path / "bare.safetensors")
    for source in (tmp_path / "bare.safetensors", tmp_path / "bare.pt"):
        import_checkpoint(source, tmp_path / "out", config=config)
        same_weights(upstream.directory, tmp_path / "out")
        assert inspect_checkpoint(source)["family"] == upstream.encoder.family
    import_checkpoint(upstream.directory / "model.safetensors", tmp_path / "again")
    same_weights(upstream.directory, tmp_path / "again")


def test_run_checkpoint_with_frozen_upstream_is_refused(tmp_path):
    torch.save({"Upstream": None, "Featurizer": {}}, tmp_path / "run.ckpt")
    with pytest.raises(CheckpointError, match="frozen"):
        import_checkpoint(tmp_path / "run.ckpt", tmp_path / "out")


def test_half_precision_sources_are_widened_exactly(hubert, tmp_path):
    content = torch.load(hubert.checkpoint, weights_only=True)
    content["model_weight"] = {name: tensor.half() for name, tensor in content["model_weight"].items()}
    torch.save(content, tmp_path / "half.pt")
    import_checkpoint(tmp_path / "half.pt", tmp_path / "out")
    stored = load_file(tmp_path / "out" / "model.safetensors")["encoder.layer_norm.weight"]
    assert stored.dtype == torch.float32
    assert torch.equal(stored, hubert.tensors["encoder.layer_norm.weight"].half().float())


def test_provenance_names_input_and_hash_but_no_machine_path(upstream):
    from speechft.files.hashes import sha256_file

    provenance = json.loads((upstream.directory / "provenance.json").read_text())
    assert provenance["kind"] == "import"
    assert provenance["inputs"] == {"checkpoint": {"name": upstream.checkpoint.name, "sha256": sha256_file(upstream.checkpoint)}}
    assert provenance["outputs"]["model.safetensors"] == sha256_file(upstream.directory / "model.safetensors")
    for file in ("provenance.json", "README.md", "source_config.json"):
        assert str(upstream.directory.parent) not in (upstream.directory / file).read_text()


def test_inspection(upstream):
    described = inspect_checkpoint(upstream.checkpoint)
    assert described["family"] == upstream.encoder.family
    assert described["tensors"] == len(upstream.tensors)
    assert described["parameters"] == sum(tensor.numel() for tensor in upstream.tensors.values())
    assert described["bytes"] == upstream.checkpoint.stat().st_size
    directory = inspect_checkpoint(upstream.directory)
    assert (directory["family"], directory["parameters"]) == (described["family"], described["parameters"])
    json.dumps([described, directory])
