"""Small encoders come in the files in which the families were published."""

import pytest

from speechft.encoders import export_checkpoint, import_checkpoint, load_encoder, random_encoder
from speechft.encoders.checkpoints.unpickling import attributes, load_pickle
from speechft.errors import CheckpointError, OutputError
from speechft.files.hashes import sha256_file
from speechft.files.structured import read_json
from speechft.rehearsal.tiny_encoders import LAYERS, build_tiny_encoder

pytest.importorskip("fairseq", reason="fairseq is not installed")

FORMATS = {"hubert": "fairseq", "wav2vec2": "fairseq", "wavlm": "wavlm", "decoar2": "decoar2"}


@pytest.mark.parametrize("family", FORMATS)
def test_import_takes_them(family, tmp_path):
    settings = build_tiny_encoder(family, tmp_path / "checkpoint.pt")
    assert settings == (tmp_path / "checkpoint.json" if family == "decoar2" else None)
    import_checkpoint(tmp_path / "checkpoint.pt", tmp_path / "encoder", config=read_json(settings) if settings else None)
    source = read_json(tmp_path / "encoder/source_config.json")
    assert (source["family"], source["format"]) == (family, FORMATS[family])
    config = load_encoder(tmp_path / "encoder").backbone.config
    assert (config.model_type, config.num_hidden_layers) == (family, LAYERS)
    build_tiny_encoder(family, tmp_path / "another_name.pt")
    assert sha256_file(tmp_path / "another_name.pt") == sha256_file(tmp_path / "checkpoint.pt")
    build_tiny_encoder(family, tmp_path / "another_name.pt", seed=1)
    assert sha256_file(tmp_path / "another_name.pt") != sha256_file(tmp_path / "checkpoint.pt")


def test_files_hold_what_the_published_ones_hold_beside_the_encoder(tmp_path):
    for family in FORMATS:
        build_tiny_encoder(family, tmp_path / f"{family}.pt")
    hubert, wav2vec2, decoar2 = (load_pickle(tmp_path / f"{family}.pt") for family in ("hubert", "wav2vec2", "decoar2"))
    assert hubert["cfg"]["model"]["_name"] == "hubert"
    assert attributes(hubert["task_state"]["dictionaries"][0])["symbols"][:5] == ["<s>", "<pad>", "</s>", "<unk>", "0"]
    assert hubert["last_optimizer_state"]["state"]
    assert attributes(wav2vec2["args"])["arch"] == "wav2vec2"
    assert "cfg" not in wav2vec2
    assert list(load_pickle(tmp_path / "wavlm.pt")) == ["cfg", "model"]
    assert list(decoar2) == ["model"]
    assert "final_proj.weight" in decoar2["model"]


def test_settings_of_decoar2_are_needed_and_families_without_weights_refused(tmp_path):
    build_tiny_encoder("decoar2", tmp_path / "checkpoint.pt")
    with pytest.raises(CheckpointError, match="encoder_attention_heads"):
        import_checkpoint(tmp_path / "checkpoint.pt", tmp_path / "encoder")
    for family in ("fbank", "hubbert"):
        with pytest.raises(CheckpointError, match="Unknown encoder family" if family == "hubbert" else ""):
            build_tiny_encoder(family, tmp_path / "none.pt")


def test_a_file_of_somebody_else_is_not_replaced(tmp_path):
    random_encoder("hubert", tmp_path / "mine")
    export_checkpoint(tmp_path / "mine", tmp_path / "mine.pt")
    (tmp_path / "other.json").write_text('{"encoder_attention_heads": 8}')
    before = sha256_file(tmp_path / "mine.pt")
    with pytest.raises(OutputError, match=r"mine\.pt: exists and is not a small encoder of `speechft rehearse`"):
        build_tiny_encoder("hubert", tmp_path / "mine.pt")
    with pytest.raises(OutputError, match=r"other\.json: exists and is not"):
        build_tiny_encoder("decoar2", tmp_path / "other.pt")
    assert sha256_file(tmp_path / "mine.pt") == before
    assert not (tmp_path / "other.pt").exists()
