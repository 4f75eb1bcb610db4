"""Tables as spreadsheets and other systems write them: empty columns, separators, marks, line ends, Unicode forms."""

import unicodedata

import pytest

from speechft.corpora import load_split
from speechft.corpora.checking import check_corpus
from speechft.corpora.readers.mixtures import read_sources
from speechft.corpora.trials import Trial, read_trials
from speechft.planning.corpus_sizes import corpus_size

NFC, NFD = "Ren\u00e9 caf\u00e9", unicodedata.normalize("NFD", "Ren\u00e9 caf\u00e9")


def read(folder, **options):
    """Id -> (text, speaker, label) of train."""
    return {found.id: (found.text, found.speaker, (found.custom or {}).get("label")) for found in folder.train(**options)}


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_empty_columns_and_rows_of_a_spreadsheet(folder, line_end, mark):
    rows = ["path,text,speaker,label,split,,,", 'a.wav,"one, two",anna,x,train,,,', "b.wav,three,ben,y,train,,,,", ",,,,,,,", " , ,,,,,,"]
    folder.corpus("path", "a.wav", "b.wav").table(mark + line_end.join(rows) + line_end)
    assert read(folder) == {"a": ("one, two", "anna", "x"), "b": ("three", "ben", "y")}


def test_an_index_without_a_name_and_quoted_line_ends(folder):
    folder.corpus("path", "a.wav").table('sep=,\r\n,path,text,split\r\n0,a.wav,"one\r\ntwo",train\r\n')
    assert read(folder) == {"a": ("one\ntwo", None, None)}


def test_one_name_in_two_unicode_forms_is_one_name(folder):
    assert NFC != NFD
    rows = [f"{name}.wav,{form},{form},{form},train" for name, form in zip("abcd", (NFC, NFD) * 2, strict=True)]
    folder.corpus("path,text,speaker,étiquette,split", *rows)
    columns = {"label": unicodedata.normalize("NFD", "étiquette")}
    assert set(read(folder, columns=columns).values()) == {(NFC, NFC, NFC)}
    assert folder.prepare(columns=columns)[0]["splits"]["train"]["speakers"] == 1


@pytest.mark.parametrize("on_disk", [NFC, NFD])
@pytest.mark.parametrize("in_table", [NFC, NFD])
def test_files_are_found_in_either_form_and_keep_their_names(folder, tmp_path, on_disk, in_table):
    folder.tone(f"{on_disk}/{on_disk}.wav", seconds=0.5)
    folder.table(f"path,split\n{in_table}/{in_table}.wav,train\n")
    (cut,) = folder.prepare()[1]["train"]
    assert (cut.id, cut.recording.sources[0].source) == (f"{NFC}_{NFC}", str(folder.path / on_disk / f"{on_disk}.wav"))
    assert check_corpus("c", folder.recipe()).problems == ()
    size = corpus_size("c", {"c": folder.recipe()}, tmp_path / "nowhere")
    assert size["train"].hours == pytest.approx(0.5 / 3600)


def test_files_whose_names_differ_in_their_form_alone(folder):
    _, splits = folder.corpus("path,split", *(f"{form}.wav,train" for form in (NFC, NFD))).prepare()
    assert [cut.recording.sources[0].source for cut in splits["train"]] == [str(folder.path / f"{form}.wav") for form in (NFC, NFD)]


def test_trials_turns_and_mixtures_name_recordings_and_speakers_in_either_form(folder, tmp_path):
    trials = tmp_path / "trials.csv"
    trials.write_text(f"\ufefflabel,enrolment,test,,\n1,{NFD},b,,\n,,,,\n", encoding="utf-8")
    assert read_trials(trials) == [Trial(True, NFC, "b")]

    name, speakers = "caf\u00e9", ("Ren\u00e9", "Bob", "Rene\u0301")
    turns = tmp_path / "turns.rttm"
    lines = [f"SPEAKER {unicodedata.normalize('NFD', name)} 1 {start} 0.5 <NA> <NA> {who} <NA>" for start, who in enumerate(speakers)]
    turns.write_text("\ufeff" + "\r\n".join(lines), encoding="utf-8")
    summary, _ = folder.corpus("path,id,split", f"a.wav,{name},train", seconds=3.0).prepare(rttm=turns)
    assert summary["splits"]["train"]["speakers"] == 2

    folder.table(f"\ufeffmixture,path,speaker,split,offset,,\nm,a.wav,{NFD.split()[0]},train,0,,\n")
    sources, problems = read_sources(folder.recipe(kind="mixtures"))
    assert ([source.speaker for source in sources], problems) == ([NFC.split()[0]], [])


def test_manifests_hold_any_character_and_those_of_others_a_name_in_two_forms(folder, tmp_path):
    text = "one\u2028two\x85three"
    folder.corpus("path,text,split", f"a.wav,{text},train", "b.wav,,train")
    assert read(folder)["a"] == (text, None, None)
    cuts = load_split(tmp_path / "out", "train")
    for cut, form in zip(cuts, (NFC, NFD), strict=True):
        cut.supervisions[0].speaker = form
    cuts.to_file(tmp_path / "train.jsonl")
    assert {cut.supervisions[0].speaker for cut in load_split({"train": tmp_path / "train.jsonl"}, "train")} == {NFC}
