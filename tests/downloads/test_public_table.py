import pytest
from conftest import ROOT

from speechft.downloads.checkpoints import COLUMNS, public_checkpoint, public_checkpoints
from speechft.downloads.lexicons import public_lexicons
from speechft.errors import ConfigError

HEADER = "\t".join(COLUMNS)
ROW = ["mine", "hubert", "https://example.org/a.pt", "a.pt", "", "", "MIT", "https://example.org"]


def test_the_public_checkpoints_are_there():
    rows = public_checkpoints(ROOT / "config/encoders.tsv")
    assert list(rows)[4:] == [
        "hubert_large", "hubert_xlarge", "wav2vec2_large", "wav2vec2_large_ll60k", "xls_r_300m", "xls_r_1b", "mms_300m", "mms_1b",
        "wavlm_base", "wavlm_large",
    ]  # fmt: skip
    assert {name: (row.family, row.file) for name, row in list(rows.items())[:4]} == {
        "hubert_base": ("hubert", "hubert_base_ls960.pt"),
        "wav2vec2_base": ("wav2vec2", "wav2vec_small.pt"),
        "wavlm_base_plus": ("wavlm", "WavLM-Base+.pt"),
        "decoar2": ("decoar2", "checkpoint_decoar2.pt"),
    }
    # A size comes with the hash of the same file.
    assert all(row.sha256 is not None for row in rows.values() if row.bytes is not None)
    assert all(row.url.startswith("https://") for row in rows.values())


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
    with pytest.raises(ConfigError, match=r"encoders\.tsv: Unknown public checkpoint 'other'\. Available: mine"):
        public_checkpoint("other", tmp_path / "encoders.tsv")


def with_cell(column, value):
    return "\t".join(value if name == column else cell for name, cell in zip(COLUMNS, ROW, strict=True))


BAD_CELLS = {
    "family": "whisper", "url": "ftp://a/b", "file": "../a.pt", "sha256": "abc", "bytes": "1.1 GB", "licence": "", "name": "a b"
}  # fmt: skip


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        *([(HEADER, with_cell(column, value)), f":2: {column} {value!r}"] for column, value in BAD_CELLS.items()),
        ((HEADER, "\t".join(ROW), "\t".join(ROW)), ":3: name 'mine' or file 'a.pt' is repeated"),
        ((HEADER, "\t".join(ROW[1:])), ":2: has 7 columns, expected 8"),
        (("\t".join(ROW),), ":1: the columns must be name, family"),
        (None, ": no such file"),
    ],
)
def test_malformed_tables_are_refused_with_line_and_column(tmp_path, lines, message):
    path = tmp_path / "encoders.tsv"
    if lines is not None:
        path.write_text("\n".join(lines) + "\n")
    with pytest.raises(ConfigError) as caught:
        public_checkpoints(path)
    assert f"encoders.tsv{message}" in str(caught.value)
