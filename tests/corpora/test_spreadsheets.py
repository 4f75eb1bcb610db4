"""Tables as spreadsheets and other systems write them: empty columns, separators, marks, line ends, Unicode forms."""

import unicodedata

import pytest

from speechft.corpora import load_split, prepare_corpus
from speechft.corpora.checking import check_corpus
from speechft.corpora.readers.mixtures import read_sources
from speechft.corpora.trials import Trial, read_trials
from speechft.errors import CorpusError
from speechft.planning.corpus_sizes import corpus_size
from speechft.recipes.corpora import CorpusRecipe

NFC, NFD = "Ren\u00e9 caf\u00e9", unicodedata.normalize("NFD", "Ren\u00e9 caf\u00e9")


def prepared(folder, tmp_path, **options):
    """Id -> (text, speaker, label) of train."""
    prepare_corpus(folder.recipe(**options), tmp_path / "out")
    supervisions = [cut.supervisions[0] for cut in load_split(tmp_path / "out", "train")]
    return {found.id: (found.text, found.speaker, (found.custom or {}).get("label")) for found in supervisions}


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_empty_columns_and_rows_of_a_spreadsheet(folder, tmp_path, line_end, mark):
    for name in "ab":
        folder.tone(f"{name}.wav")
    rows = ["path,text,speaker,label,split,,,", 'a.wav,"one, two",anna,x,train,,,', "b.wav,three,ben,y,train,,,,", ",,,,,,,", " , ,,,,,,"]
    folder.table(mark + line_end.join(rows) + line_end)
    assert prepared(folder, tmp_path) == {"a": ("one, two", "anna", "x"), "b": ("three", "ben", "y")}


def test_a_cell_behind_the_named_columns_is_no_empty_column(folder, tmp_path):
    folder.tone("a.wav")
    folder.table("path,split,text,,\na.wav,train,hello, world,\n")
    with pytest.raises(CorpusError, match="row 2: has 5 cells, the header has 3; quote cells that hold commas"):
        prepare_corpus(folder.recipe(), tmp_path / "out")


def test_an_index_without_a_name_and_quoted_line_ends(folder, tmp_path):
    folder.tone("a.wav")
    folder.table('sep=,\r\n,path,text,split\r\n0,a.wav,"one\r\ntwo",train\r\n')
    assert prepared(folder, tmp_path) == {"a": ("one\ntwo", None, None)}


@pytest.mark.parametrize(("separator", "name"), [(";", "semicolons"), ("\t", "tabs")])
def test_other_separators_are_one_error_that_names_them(folder, tmp_path, separator, name):
    row = separator.join(("a.wav", '"Hello; you"', "train"))
    folder.table(f"{separator.join(('path', 'text', 'split'))}\n{row}\n")
    for read in (lambda: prepare_corpus(folder.recipe(), tmp_path / "out"), lambda: read_trials(folder.csv)):
        with pytest.raises(CorpusError, match=f"its cells are separated by {name}"):
            read()
    folder.table(f"sep={separator}\npath{separator}split\n")
    with pytest.raises(CorpusError, match=f"its cells are separated by {name}"):
        prepare_corpus(folder.recipe(), tmp_path / "out")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le"])
def test_utf16_is_named(folder, tmp_path, encoding):
    folder.table("path,split\na.wav,train\n", encoding)
    with pytest.raises(CorpusError, match="save it as UTF-8"):
        prepare_corpus(folder.recipe(), tmp_path / "out")


def test_one_name_in_two_unicode_forms_is_one_name(folder, tmp_path):
    assert NFC != NFD
    for name in "abcd":
        folder.tone(f"{name}.wav")
    rows = [f"{name}.wav,{form},{form},{form},train" for name, form in zip("abcd", (NFC, NFD) * 2, strict=True)]
    folder.table("\n".join(["path,text,speaker,étiquette,split", *rows]))
    columns = {"label": unicodedata.normalize("NFD", "étiquette")}
    assert set(prepared(folder, tmp_path, columns=columns).values()) == {(NFC, NFC, NFC)}
    summary = prepare_corpus(folder.recipe(columns=columns), tmp_path / "out")
    assert summary["splits"]["train"]["speakers"] == 1


def test_ids_in_two_unicode_forms_are_one_id(folder, tmp_path):
    for name in "ab":
        folder.tone(f"{name}.wav")
    folder.table(f"path,id,split\na.wav,{NFC},train\nb.wav,{NFD},train\n")
    with pytest.raises(CorpusError, match="row 3: id .* is already in row 2"):
        prepare_corpus(folder.recipe(), tmp_path / "out")


@pytest.mark.parametrize("on_disk", [NFC, NFD])
@pytest.mark.parametrize("in_table", [NFC, NFD])
def test_files_are_found_in_either_form_and_keep_their_names(folder, tmp_path, on_disk, in_table):
    folder.tone(f"{on_disk}/{on_disk}.wav", seconds=0.5)
    folder.table(f"path,split\n{in_table}/{in_table}.wav,train\n")
    assert list(prepared(folder, tmp_path)) == [f"{NFC}_{NFC}"]
    cut = load_split(tmp_path / "out", "train")[0]
    assert cut.recording.sources[0].source == str(folder.path / on_disk / f"{on_disk}.wav")
    assert check_corpus("c", folder.recipe()).problems == ()
    size = corpus_size("c", {"c": folder.recipe()}, tmp_path / "nowhere")
    assert size["train"].hours == pytest.approx(0.5 / 3600)


def test_files_whose_names_differ_in_their_form_alone(folder, tmp_path):
    for form in (NFC, NFD):
        folder.tone(f"{form}.wav")
    folder.table(f"path,split\n{NFC}.wav,train\n{NFD}.wav,train\n")
    prepare_corpus(folder.recipe(), tmp_path / "out")
    sources = [cut.recording.sources[0].source for cut in load_split(tmp_path / "out", "train")]
    assert sources == [str(folder.path / f"{form}.wav") for form in (NFC, NFD)]


def test_trials_and_turns_name_recordings_in_either_form(folder, tmp_path):
    trials = tmp_path / "trials.csv"
    trials.write_text(f"\ufefflabel,enrolment,test,,\n1,{NFD},b,,\n,,,,\n", encoding="utf-8")
    assert read_trials(trials) == [Trial(True, NFC, "b")]

    folder.tone("a.wav", seconds=3.0)
    name, speakers = "caf\u00e9", ("Ren\u00e9", "Bob", "Rene\u0301")
    folder.table(f"path,id,split\na.wav,{name},train\n")
    turns = tmp_path / "turns.rttm"
    lines = [f"SPEAKER {unicodedata.normalize('NFD', name)} 1 {start} 0.5 <NA> <NA> {who} <NA>" for start, who in enumerate(speakers)]
    turns.write_text("\ufeff" + "\r\n".join(lines), encoding="utf-8")
    summary = prepare_corpus(folder.recipe(rttm=turns), tmp_path / "out")
    assert summary["splits"]["train"]["speakers"] == 2


def test_sources_of_mixtures(folder):
    folder.table(f"\ufeffmixture,path,speaker,split,offset,,\nm,a.wav,{NFD.split()[0]},train,0,,\n")
    sources, problems = read_sources(CorpusRecipe(kind="mixtures", path=folder.csv))
    assert problems == []
    assert [source.speaker for source in sources] == [NFC.split()[0]]


def test_manifests_hold_any_character_of_a_text(folder, tmp_path):
    folder.tone("a.wav")
    text = "one\u2028two\x85three"
    folder.table(f"path,text,split\na.wav,{text},train\n")
    assert prepared(folder, tmp_path) == {"a": (text, None, None)}


def test_manifests_of_others_hold_a_name_in_two_forms(folder, tmp_path):
    for name in "ab":
        folder.tone(f"{name}.wav")
    folder.table("path,speaker,split\na.wav,one,train\nb.wav,two,train\n")
    prepare_corpus(folder.recipe(), tmp_path / "out")
    cuts = load_split(tmp_path / "out", "train")
    for cut, form in zip(cuts, (NFC, NFD), strict=True):
        cut.supervisions[0].speaker = form
    cuts.to_file(tmp_path / "train.jsonl")
    assert {cut.supervisions[0].speaker for cut in load_split({"train": tmp_path / "train.jsonl"}, "train")} == {NFC}
