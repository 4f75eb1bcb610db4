"""Import -> export -> import, over all families and formats."""

import json
import logging
from argparse import Namespace

import pytest
import torch
from encoders.tiny import equal, imported, refuses, same_weights, weights
from safetensors.torch import load_file, save_file

from speechft.encoders import export_checkpoint, import_checkpoint, inspect_checkpoint, load_encoder
from speechft.errors import CheckpointError
from speechft.files.hashes import sha256_file

FAIRSEQ = ("hubert", "hubert_large", "wav2vec2", "wav2vec2_large")


def sizes_of(upstream):
    """What tensors alone do not tell of the recorded models, whose sizes are not the published ones."""
    return {"encoder_attention_heads": 4, **({"max_distance": 48} if upstream.name == "wavlm" else {})}


def test_every_tensor_of_the_source_is_kept_bit_for_bit(upstream):
    """s3prl's layout out again holds exactly the recorded tensors, names and configuration."""
    out = upstream.directory.parent / "again.pt"
    export_checkpoint(upstream.directory, out, format="s3prl")
    content = torch.load(out, weights_only=True)
    assert content.keys() == upstream.layout["checkpoint_layout"].keys()
    assert equal(content["model_weight" if "model_weight" in content else "model"], upstream.tensors)
    for section in ("task_cfg", "model_cfg", "dictionaries_symbols", "cfg"):
        assert content.get(section) == upstream.layout.get(section)


@pytest.mark.parametrize("format", ["fairseq", "s3prl", "transformers"])
def test_round_trip(upstream, format):
    folder = upstream.directory.parent
    if format == "fairseq" and upstream.name not in FAIRSEQ:
        with pytest.raises(CheckpointError, match=r"fairseq has no .* model.*s3prl"):
            export_checkpoint(upstream.directory, folder / "out", format=format)
        return
    export_checkpoint(upstream.directory, folder / format, format=format)
    import_checkpoint(folder / format, folder / "back", config=upstream.config if format == "s3prl" else None)
    assert same_weights(upstream.directory, folder / "back")
    for file in ("config.json", *(["source_config.json"] if format != "fairseq" else [])):
        assert (folder / "back" / file).read_text() == (upstream.directory / file).read_text()


def test_transformers_loads_the_directory_with_nothing_missing(upstream):
    from transformers import AutoModel

    import speechft.encoders.decoar2  # noqa: F401 - makes the family known

    exported = upstream.directory.parent / "exported"
    export_checkpoint(upstream.directory, exported, format="transformers")
    for directory in (upstream.directory, exported):
        model, info = AutoModel.from_pretrained(directory, output_loading_info=True, local_files_only=True)
        assert not any(info.values())
        assert not model.config.layerdrop
        assert equal(model.state_dict(), weights(directory))


def test_counts_are_logged(hubert, tmp_path, caplog):
    with caplog.at_level(logging.INFO, logger="speechft"):
        import_checkpoint(hubert.checkpoint, tmp_path / "out")
    assert "70 tensors: 67 of the encoder, 3 for pre-training only" in caplog.text
    extra = load_file(tmp_path / "out" / "pretraining_only.safetensors")
    assert extra.keys() == {"final_proj.weight", "final_proj.bias", "label_embs_concat"}


def test_normalization_of_decoar2_may_be_given(golden, tmp_path):
    """Its checkpoints carry no configuration."""
    config = {"encoder_attention_heads": 4, "normalize": True}
    import_checkpoint(golden / "upstream" / "decoar2.pt", tmp_path / "out", config=config)
    assert load_encoder(tmp_path / "out").normalize


def test_family_and_format_may_be_given_and_are_checked(upstream, tmp_path):
    family = upstream.encoder.family
    format = upstream.name if upstream.name in ("wavlm", "decoar2") else "s3prl"
    import_checkpoint(upstream.checkpoint, tmp_path / "out", family=family, format=format, config=upstream.config)
    other = "hubert" if family != "hubert" else "wavlm"
    arguments = (upstream.checkpoint, tmp_path / "refused")
    assert refuses(f"the format is {format}, not s3prl_run", *arguments, format="s3prl_run", config=upstream.config)
    assert refuses(f"contains a {family} model, not {other}", *arguments, family=other, config=upstream.config)


def test_s3prl_run_checkpoints(upstream, tmp_path):
    """A fine-tuned upstream as s3prl's runner saves it; it carries no configuration of the model."""
    prefix = {"hubert": "", "wavlm": "module.model."}.get(upstream.name, "model.")
    state = {prefix + name: tensor for name, tensor in upstream.tensors.items()}
    run = {"Upstream": state, "Step": 7, "Args": Namespace(upstream=upstream.encoder.family), "Config": {}, "Featurizer": {}}
    torch.save({**run, "Downstream": {}}, tmp_path / "dev-best.ckpt")
    import_checkpoint(tmp_path / "dev-best.ckpt", tmp_path / "out", config=sizes_of(upstream))
    assert same_weights(upstream.directory, tmp_path / "out")
    with torch.inference_mode():
        found, expected = (model.encode(upstream.waveforms).hidden_states for model in (load_encoder(tmp_path / "out"), upstream.encoder))
    assert all(torch.equal(left, right) for left, right in zip(found, expected, strict=True))
    # What it lacks is completed from its tensors, so that it can be given back.
    export_checkpoint(tmp_path / "out", tmp_path / "back.pt", format="s3prl")


def test_bare_state_dicts(upstream, tmp_path):
    """Tensors alone, under the names of fairseq, as safetensors or as a pickled dict."""
    torch.save({f"model.{name}": tensor for name, tensor in upstream.tensors.items()}, tmp_path / "bare.pt")
    save_file(upstream.tensors, tmp_path / "bare.safetensors")
    for source in (tmp_path / "bare.safetensors", tmp_path / "bare.pt"):
        import_checkpoint(source, tmp_path / "out", config=sizes_of(upstream))
        assert same_weights(upstream.directory, tmp_path / "out")
        assert inspect_checkpoint(source)["family"] == upstream.encoder.family
    import_checkpoint(upstream.directory / "model.safetensors", tmp_path / "again")
    assert same_weights(upstream.directory, tmp_path / "again")


def test_half_precision_sources_are_widened_exactly(hubert, tmp_path):
    content = torch.load(hubert.checkpoint, weights_only=True)
    content["model_weight"] = {name: tensor.half() for name, tensor in content["model_weight"].items()}
    torch.save(content, tmp_path / "half.pt")
    assert equal(
        imported(tmp_path / "half.pt", tmp_path / "out"),
        {name: tensor.half().float() for name, tensor in weights(hubert.directory).items()},
    )


def test_provenance_names_input_and_hash_but_no_machine_path(upstream):
    provenance = json.loads((upstream.directory / "provenance.json").read_text())
    assert provenance["kind"] == "import"
    assert provenance["inputs"] == {"checkpoint": {"name": upstream.checkpoint.name, "sha256": sha256_file(upstream.checkpoint)}}
    assert provenance["outputs"]["model.safetensors"] == sha256_file(upstream.directory / "model.safetensors")
    for file in ("provenance.json", "README.md", "source_config.json"):
        assert str(upstream.directory.parent) not in (upstream.directory / file).read_text()


def test_inspection(upstream):
    described, directory = inspect_checkpoint(upstream.checkpoint), inspect_checkpoint(upstream.directory)
    assert described["tensors"] == len(upstream.tensors)
    assert described["bytes"] == upstream.checkpoint.stat().st_size
    for seen in (described, directory):
        assert seen["family"] == upstream.encoder.family
        assert seen["parameters"] == sum(tensor.numel() for tensor in upstream.tensors.values())
        json.dumps(seen)
