import pytest
from conftest import ROOT

from speechft.downloads.checkpoints import COLUMNS, public_checkpoint, public_checkpoints
from speechft.downloads.lexicons import public_lexicons
from speechft.errors import ConfigError

HEADER = "\t".join(COLUMNS)
ROW = ["mine", "hubert", "https://example.org/a.pt", "a.pt", "", "", "MIT", "https://example.org"]


def refused(folder, *lines):
    (folder / "encoders.tsv").write_text("\n".join(lines) + "\n")
    with pytest.raises(ConfigError) as caught:
        public_checkpoints(folder / "encoders.tsv")
    return str(caught.value)


def test_the_four_public_checkpoints_are_there():
    rows = public_checkpoints(ROOT / "config/encoders.tsv")
    assert {name: (row.family, row.file) for name, row in rows.items()} == {
        "hubert_base": ("hubert", "hubert_base_ls960.pt"),
        "wav2vec2_base": ("wav2vec2", "wav2vec_small.pt"),
        "wavlm_base_plus": ("wavlm", "WavLM-Base+.pt"),
        "decoar2": ("decoar2", "checkpoint_decoar2.pt"),
    }
    assert all((row.sha256 is None) == (row.bytes is None) for row in rows.values())


def test_the_lexicons_of_librispeech_are_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = public_lexicons()
    assert {name: row.path.as_posix() for name, row in rows.items()} == {
        "superb_lexicon_200k": "lexicons/librispeech-lexicon-200k-g2p.txt",
        "superb_lexicon_allothers": "lexicons/librispeech-lexicon-allothers-g2p.txt",
        "librispeech_lexicon": "lexicons/librispeech-lexicon.txt",
    }
    assert not rows.keys() & public_checkpoints().keys()
    assert all(row.url.endswith(f"/{row.file}") for row in rows.values())


def test_the_default_table_is_found_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert public_checkpoint("decoar2").sha256 is None


def test_unknown_values_are_none(tmp_path):
    (tmp_path / "encoders.tsv").write_text(HEADER + "\n" + "\t".join(ROW) + "\n")
    row = public_checkpoint("mine", tmp_path / "encoders.tsv")
    assert (row.sha256, row.bytes) == (None, None)
    with pytest.raises(ConfigError, match=r"no public checkpoint in config/encoders\.tsv 'other'\. There are mine"):
        public_checkpoint("other", tmp_path / "encoders.tsv")


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("family", "whisper"),
        ("url", "ftp://a/b"),
        ("file", "../a.pt"),
        ("sha256", "abc"),
        ("bytes", "1.1 GB"),
        ("licence", ""),
        ("name", "a b"),
    ],
)
def test_bad_cells_are_named_with_line_and_column(tmp_path, column, value):
    row = list(ROW)
    row[COLUMNS.index(column)] = value
    text = refused(tmp_path, HEADER, "\t".join(row))
    assert f"encoders.tsv:2: {column} {value!r}" in text


def test_malformed_tables_are_refused(tmp_path):
    row = "\t".join(ROW)
    assert "encoders.tsv:3: name 'mine' or file 'a.pt' is there twice" in refused(tmp_path, HEADER, row, row)
    assert "encoders.tsv:2: has 7 columns, needs 8" in refused(tmp_path, HEADER, "\t".join(ROW[1:]))
    assert "encoders.tsv:1: the columns must be name, family" in refused(tmp_path, row)
    with pytest.raises(ConfigError, match=r"none\.tsv: no such file"):
        public_checkpoints(tmp_path / "none.tsv")
