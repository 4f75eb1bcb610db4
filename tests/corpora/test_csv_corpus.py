import json
import shutil

import pytest
from corpora.conftest import matches

from speechft.corpora import prepare_corpus, split_names
from speechft.corpora.trials import read_trials
from speechft.errors import CorpusError


def test_supervisions_are_those_of_the_table(folder, tmp_path):
    folder.corpus("path,text,speaker,label,split,note", "a/x.wav,HI  YOU, s1 ,hi,train,n", "a/y.wav,,,,test,", "z.wav,BYE,s2,bye,train,m")
    summary, splits = folder.prepare()
    assert [cut.id for cut in splits["train"]] == ["a_x", "z"]
    supervision = splits["train"][0].supervisions[0]
    assert (supervision.text, supervision.speaker, supervision.custom) == ("HI  YOU", "s1", {"label": "hi", "note": "n"})
    assert splits["train"][0].recording.sources[0].source == str((folder.path / "a/x.wav").resolve())
    (unlabelled,) = splits["test"][0].supervisions
    assert (unlabelled.text, unlabelled.speaker, unlabelled.custom) == (None, None, None)
    assert set(splits) == {path.name.split(".")[0] for path in (tmp_path / "out").glob("*.gz")} == {"train", "test"}
    train = summary["splits"]["train"]
    assert (train["utterances"], train["speakers"], summary["splits"]["test"]["without_label"]) == (2, 2, 1)
    assert train["hours"] == pytest.approx(0.4 / 3600, abs=1e-6)
    assert json.loads((tmp_path / "out/corpus.json").read_text()) == summary
    assert set(folder.prepare(unlabelled=True)[1]) == {"train"}
    assert [(found.text, found.custom) for found in folder.train(unlabelled=True)] == [(None, None)] * 3


def test_further_columns_are_kept_by_their_names(folder):
    folder.corpus("path,who,accent,,Alter,split", "x.wav,s1,Scots,-, 21 ,train", "y.wav,s1,,-,30,train")
    summary = folder.prepare(columns={"speaker": "who"})[0]
    labels = [(found.speaker, found.custom) for found in folder.train(columns={"speaker": "who"})]
    assert labels == [("s1", {"accent": "Scots", "Alter": "21"}), ("s1", {"Alter": "30"})]
    folder.corpus("path,who,accent,,Alter,split", "x.wav,s1,Welsh,-, 21 ,train", "y.wav,s1,,-,30,train")
    assert folder.prepare(columns={"speaker": "who"})[0]["content_sha256"] != summary["content_sha256"]


def test_folds(folder, tmp_path):
    folder.corpus("path,label,session", "x.wav,sad,Ses1", "y.wav,sad,Ses2", "z.wav,sad,")
    options = {"columns": {"fold": "session"}, "default_split": "train"}
    summary, splits = folder.prepare(**options)
    assert [cut.custom for cut in splits["train"]] == [{"fold": "Ses1"}, {"fold": "Ses2"}, None]
    assert summary["splits"]["train"]["folds"] == {"Ses1": 1, "Ses2": 1}
    assert split_names(tmp_path / "out") == ("train",)
    assert split_names({"train": "a", "test": "b"}) == ("train", "test")
    folder.corpus("path,label,session", "x.wav,sad,Ses1", "y.wav,sad,Ses1", "z.wav,sad,")
    assert folder.prepare(**options)[0]["content_sha256"] != summary["content_sha256"]


def test_columns_of_another_name_byte_order_mark_and_other_root(folder):
    folder.tone("audio/x.wav")
    folder.table("\ufefffile,word,set\nx.wav,hi,train\n")
    columns = {"path": "file", "label": "word", "split": "set"}
    assert folder.train(columns=columns, audio_root=folder.path / "audio")[0].custom == {"label": "hi"}


def test_every_problem_of_every_row_is_in_one_report(folder, recordings):
    for name in ("good.wav", "other.wav"):
        folder.tone(name)
    folder.tone("stereo.wav", channels=2)
    (folder.path / "empty.wav").touch()
    folder.samples("no_samples.wav", [])
    folder.samples("nan.wav", [0.0, float("nan"), 0.0], subtype="FLOAT")
    folder.samples("inf.wav", [0.0, float("inf"), 0.0], subtype="FLOAT")
    (folder.path / "words.wav").write_text("this is not audio")
    lost_sync = bytearray((recordings / "digits/8_lucas_0.flac").read_bytes())
    lost_sync[3000:3050] = bytes(50)
    (folder.path / "lost_sync.flac").write_bytes(lost_sync)
    folder.table(
        "path,id,split\ngood.wav,one,train\nmissing.wav,,train\nstereo.wav,,train\nempty.wav,,train\nno_samples.wav,,train\n"
        "nan.wav,,dev\ninf.wav,,dev\nwords.wav,,dev\n\nlost_sync.flac,,validation\nother.wav,one,test\ngood.wav,,train\n,,train\nx.wav,,train,surplus\n"
    )
    expected = [
        ("row 3: missing.wav", "no such file"),
        ("row 4: stereo.wav", "set `channel`"),
        ("row 5: empty.wav", "0 bytes"),
        ("row 6: no_samples.wav", "contains no samples"),
        ("row 7: nan.wav", "NaN or Inf"),
        ("row 8: inf.wav", "NaN or Inf"),
        ("row 9: words.wav", "damaged or not audio"),
        ("row 11: lost_sync.flac", "lost sync"),
        ("row 11: split 'validation'", "did you mean 'dev'?"),
        ("row 12: id 'one'", "already in row 2"),
        ("row 13: good.wav", "already in row 2"),
        ("row 14: column 'path'", "empty"),
        ("row 15: has 4 cells", "the header has 3"),
    ]
    assert matches(folder.problems(), expected)


def test_a_long_report_is_cut_but_kept(folder, tmp_path):
    folder.corpus("path,split", "good.wav,train")
    folder.table(folder.csv.read_text() + "".join(f"missing{number}.wav,train\n" for number in range(80)))
    with pytest.raises(CorpusError, match=f"{folder.csv}: 80 problems in 80 rows") as caught:
        prepare_corpus(folder.recipe(), tmp_path / "out")
    assert len(caught.value.problems) == 80
    assert "missing49.wav" in str(caught.value)
    assert "missing50.wav" not in str(caught.value)
    assert str(caught.value).endswith("and 30 more")


def test_channel_is_chosen_and_checked(folder):
    folder.tone("stereo.wav", channels=2)
    folder.corpus("path,split", "mono.wav,train", "stereo.wav,train")
    assert [problem.split(":")[0] for problem in folder.problems(channel=2)] == ["row 2", "row 3"]
    (problem,) = folder.problems(channel=1)
    assert problem.startswith("row 2: mono.wav: `channel` is 1, but it has 1 channel")
    folder.prepare(channel=0)


TWO = "path,split\na.wav,train\nb.wav,{}\n".format
MIXED, OF_MIXTURES = {"kind": "mixtures"}, "mixture,path,speaker,split,offset\n"
NFC, NFD = "\u00e9", "e\u0301"
SEMICOLONS, TABS = (f"its cells are separated by {name}" for name in ("semicolons (';')", "tabs"))


@pytest.mark.parametrize(
    ("table", "options", "message"),
    [
        (None, {}, "no such file"),
        ("", {}, "empty file"),
        ("file,split\na.wav,train\n", {}, "there is no column 'path'"),
        ("path,path\na.wav,b.wav\n", {}, "comes 2 times"),
        ("path,split\n", {}, "no rows"),
        ("path,split\na.wav,train\n", {"columns": {"labl": "split"}}, "'labl', which is not one of path, "),
        ("path,split,digit\na.wav,train,1\n", {"columns": {"label": "digits"}}, "Did you mean 'digit'"),
        ("path\na.wav\n", {}, "set `default_split`"),
        ("path,split\na.wav,\n", {}, "its split is empty"),
        ("path,split\na.wav,test\n", {}, "split 'train' has no rows"),
        (TWO("dev"), {"dev_fraction": 0.1}, "rows; remove one of the two"),
        (TWO("test"), {"dev_fraction": 0.1}, "it needs 2"),
        ("path,split\nx.wav,train\ny.wav,train\n", {}, "`audio_root`"),
        ('path,split\n"a.wav,train\n', {}, "not a CSV file"),
        ("path,split,text,,\na.wav,train,hello, world,\n", {}, "row 2: has 5 cells, but the header has 3; quote cells that contain commas"),
        ('path;text;split\na.wav;"Hello; you";train\n', {}, SEMICOLONS),
        ('path\ttext\tsplit\na.wav\t"Hello; you"\ttrain\n', {}, TABS),
        ("sep=;\npath;split\n", {}, SEMICOLONS),
        ("sep=\t\npath\tsplit\n", {}, TABS),
        (TWO("train").encode("utf-16"), {}, "UTF-16; save it as UTF-8"),
        (TWO("train").encode("utf-16-le"), {}, "save it as UTF-8"),
        ("path,text,split\na.wav,café,train\n".encode("latin-1"), {}, r"row 2: column 2 is not UTF-8 (caf\xe9)"),
        (f"path,id,split\na.wav,{NFC},train\nb.wav,{NFD},train\n", {}, f"row 3: id {NFC!r} is already in row 2"),
        ("mixture,path\nx,a.wav\n", MIXED, "no column speaker, split, offset"),
        (OF_MIXTURES, MIXED, "no rows"),
        ("", MIXED, "no column"),
    ],
)
def test_tables_that_cannot_be_used(folder, table, options, message):
    folder.corpus("path", "a.wav", "b.wav")
    if table is None:
        folder.csv.unlink()
    else:
        folder.csv.write_bytes(table.encode() if isinstance(table, str) else table)
    reads = [lambda: prepare_corpus(folder.recipe(**options), folder.path / "out")]
    reads += [lambda: read_trials(folder.csv)] if "separated" in message else []
    for read in reads:
        with pytest.raises(CorpusError, match=str(folder.csv)) as caught:
            read()
        assert message in str(caught.value)


def test_ids_stay_unique_when_paths_differ_by_slash_or_suffix(folder):
    _, splits = folder.corpus("path,split", *(f"{name},train" for name in ("a/b.wav", "a_b.wav", "a_b.flac", "c.wav"))).prepare()
    ids = [cut.id for cut in splits["train"]]
    assert len(set(ids)) == 4
    assert all(identifier.startswith("a_b-") for identifier in ids[:3])
    assert ids[3] == "c"


def test_same_corpus_gives_the_same_bytes_and_content_hash_ignores_the_place(folder, tmp_path):
    folder.tone("b.wav", rate=8000)
    folder.corpus("path,text,split", "a.wav,HI,train", "b.wav,YOU,train")
    first, _ = folder.prepare("one")
    assert folder.prepare("two")[0] == first
    manifest = (tmp_path / "one/train.jsonl.gz").read_bytes()
    assert manifest == (tmp_path / "two/train.jsonl.gz").read_bytes()
    assert manifest[4:8] == bytes(4)  # gzip's time stamp
    assert first["sampling_rates"] == {"8000": 1, "16000": 1}

    shutil.copytree(folder.path, tmp_path / "moved")
    moved = prepare_corpus(folder.recipe().model_copy(update={"path": tmp_path / "moved/corpus.csv"}), tmp_path / "three")
    assert moved["content_sha256"] == first["content_sha256"]
    assert moved["splits"]["train"]["sha256"] != first["splits"]["train"]["sha256"]

    folder.tone("a.wav", frequency=441.0)
    assert folder.prepare("one")[0]["content_sha256"] != first["content_sha256"]
    # Older manifests are replaced only by complete ones.
    before = (tmp_path / "one/train.jsonl.gz").read_bytes()
    folder.table("path,split\na.wav,train\nmissing.wav,train\n")
    with pytest.raises(CorpusError):
        folder.prepare("one")
    assert (tmp_path / "one/train.jsonl.gz").read_bytes() == before


def test_recorded_digits(folder, recordings):
    folder.table((recordings / "digits.csv").read_text())
    summary, splits = folder.prepare(audio_root=recordings, columns={"label": "digit"}, dev_fraction=0.1)
    assert sum(map(len, splits.values())) == 120
    assert summary["sampling_rates"] == {"8000": 120}
    assert summary["splits"]["train"]["speakers"] == 6
    assert {cut.supervisions[0].custom["label"] for cut in splits["train"]} == set("0123456789")
