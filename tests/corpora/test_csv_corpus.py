import gzip
import json
import shutil

import pytest

from speechft.corpora import load_split, prepare_corpus, split_names
from speechft.errors import CorpusError


def problems_of(folder, tmp_path, **options):
    """Problems of a corpus that must be refused, without the folder in front of file names."""
    with pytest.raises(CorpusError) as caught:
        prepare_corpus(folder.recipe(**options), tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert str(folder.csv) in str(caught.value)
    return [problem.replace(f"{folder.path}/", "") for problem in caught.value.problems]


def test_supervisions_are_those_of_the_table(folder, tmp_path):
    for name in ("a/x.wav", "a/y.wav", "z.wav"):
        folder.tone(name)
    folder.table("path,text,speaker,label,split,note\na/x.wav,HI  YOU, s1 ,hi,train,n\na/y.wav,,,,test,\nz.wav,BYE,s2,bye,train,m\n")
    summary = prepare_corpus(folder.recipe(), tmp_path / "out")
    cuts = list(load_split(tmp_path / "out", "train"))
    assert [cut.id for cut in cuts] == ["a_x", "z"]
    supervision = cuts[0].supervisions[0]
    assert (supervision.text, supervision.speaker, supervision.custom) == ("HI  YOU", "s1", {"label": "hi"})
    assert cuts[0].recording.sources[0].source == str((folder.path / "a/x.wav").resolve())
    (unlabelled,) = load_split(tmp_path / "out", "test")[0].supervisions
    assert (unlabelled.text, unlabelled.speaker, unlabelled.custom) == (None, None, None)
    assert set(summary["splits"]) == {"train", "test"} == {path.name.split(".")[0] for path in (tmp_path / "out").glob("*.gz")}
    assert summary["splits"]["train"]["utterances"] == 2
    assert summary["splits"]["train"]["speakers"] == 2
    assert summary["splits"]["train"]["hours"] == pytest.approx(0.4 / 3600, abs=1e-6)
    assert summary["splits"]["test"]["without_label"] == 1
    assert json.loads((tmp_path / "out/corpus.json").read_text()) == summary


def test_folds(folder, tmp_path):
    for name in ("x.wav", "y.wav", "z.wav"):
        folder.tone(name)
    folder.table("path,label,session\nx.wav,sad,Ses1\ny.wav,sad,Ses2\nz.wav,sad,\n")
    recipe = folder.recipe(columns={"fold": "session"}, default_split="train")
    summary = prepare_corpus(recipe, tmp_path / "out")
    assert [cut.custom for cut in load_split(tmp_path / "out", "train")] == [{"fold": "Ses1"}, {"fold": "Ses2"}, None]
    assert summary["splits"]["train"]["folds"] == {"Ses1": 1, "Ses2": 1}
    assert split_names(tmp_path / "out") == ("train",)
    assert split_names({"train": "a", "test": "b"}) == ("train", "test")
    folder.table("path,label,session\nx.wav,sad,Ses1\ny.wav,sad,Ses1\nz.wav,sad,\n")
    assert prepare_corpus(recipe, tmp_path / "other")["content_sha256"] != summary["content_sha256"]


def test_columns_of_another_name_byte_order_mark_and_other_root(folder, tmp_path):
    folder.tone("audio/x.wav")
    folder.table("\ufefffile,word,set\nx.wav,hi,train\n")
    recipe = folder.recipe(columns={"path": "file", "label": "word", "split": "set"}, audio_root=folder.path / "audio")
    prepare_corpus(recipe, tmp_path / "out")
    assert load_split(tmp_path / "out", "train")[0].supervisions[0].custom == {"label": "hi"}


def test_every_problem_of_every_row_is_in_one_report(folder, tmp_path, recordings):
    folder.tone("good.wav")
    folder.tone("stereo.wav", channels=2)
    (folder.path / "empty.wav").touch()
    folder.samples("no_samples.wav", [])
    folder.samples("nan.wav", [0.0, float("nan"), 0.0], subtype="FLOAT")
    folder.samples("inf.wav", [0.0, float("inf"), 0.0], subtype="FLOAT")
    (folder.path / "words.wav").write_text("this is not audio")
    lost_sync = bytearray((recordings / "digits/8_lucas_0.flac").read_bytes())
    lost_sync[3000:3050] = bytes(50)
    (folder.path / "lost_sync.flac").write_bytes(lost_sync)
    folder.tone("other.wav")
    folder.table(
        "path,id,split\ngood.wav,one,train\nmissing.wav,,train\nstereo.wav,,train\nempty.wav,,train\nno_samples.wav,,train\n"
        "nan.wav,,dev\ninf.wav,,dev\nwords.wav,,dev\n\nlost_sync.flac,,validation\nother.wav,one,test\ngood.wav,,train\n,,train\nx.wav,,train,surplus\n"
    )
    found = problems_of(folder, tmp_path)
    expected = [
        ("row 3: missing.wav", "no such file"),
        ("row 4: stereo.wav", "set `channel`"),
        ("row 5: empty.wav", "0 bytes"),
        ("row 6: no_samples.wav", "holds no samples"),
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
    assert len(found) == len(expected), found
    for problem, (start, part) in zip(found, expected, strict=True):
        assert problem.startswith(start)
        assert part in problem


def test_a_long_report_is_cut_but_kept(folder, tmp_path):
    folder.tone("good.wav")
    folder.table("path,split\ngood.wav,train\n" + "".join(f"missing{number}.wav,train\n" for number in range(80)))
    with pytest.raises(CorpusError, match="80 problems in 80 rows") as caught:
        prepare_corpus(folder.recipe(), tmp_path / "out")
    assert len(caught.value.problems) == 80
    assert "missing49.wav" in str(caught.value)
    assert "missing50.wav" not in str(caught.value)
    assert str(caught.value).endswith("and 30 more")


def test_wrong_root_is_guessed(folder, tmp_path):
    folder.table("path,split\na.wav,train\nb.wav,train\n")
    assert "`audio_root`" in problems_of(folder, tmp_path)[0]


def test_channel_is_chosen_and_checked(folder, tmp_path):
    folder.tone("mono.wav")
    folder.tone("stereo.wav", channels=2)
    folder.table("path,split\nmono.wav,train\nstereo.wav,train\n")
    assert [problem.split(":")[0] for problem in problems_of(folder, tmp_path, channel=2)] == ["row 2", "row 3"]
    (problem,) = problems_of(folder, tmp_path, channel=1)
    assert problem.startswith("row 2: mono.wav: `channel` is 1, but it has 1 channel")
    prepare_corpus(folder.recipe(channel=0), tmp_path / "out")


@pytest.mark.parametrize(
    ("table", "options", "message"),
    [
        ("", {}, "is empty"),
        ("file,split\na.wav,train\n", {}, "there is no column 'path'"),
        ("path;split\na.wav;train\n", {}, "separated by semicolons (';')"),
        ("path,path\na.wav,b.wav\n", {}, "comes 2 times"),
        ("path,split\n", {}, "no rows"),
        ("path,split\na.wav,train\n", {"columns": {"labl": "split"}}, "'labl', which is not one of ours"),
        ("path,split,digit\na.wav,train,1\n", {"columns": {"label": "digits"}}, "Did you mean 'digit'"),
        ("path\na.wav\n", {}, "set `default_split`"),
        ("path,split\na.wav,\n", {}, "its split is empty"),
        ("path,split\na.wav,test\n", {}, "split 'train' is empty"),
        ("path,split\na.wav,train\nb.wav,dev\n", {"dev_fraction": 0.1}, "already; remove one of the two"),
        ("path,split\na.wav,train\nb.wav,test\n", {"dev_fraction": 0.1}, "it takes 2"),
        ('path,split\n"a.wav,train\n', {}, "is not a CSV file"),
    ],
)
def test_tables_that_can_not_be_used(folder, tmp_path, table, options, message):
    folder.tone("a.wav")
    folder.tone("b.wav")
    folder.table(table)
    with pytest.raises(CorpusError, match=str(folder.csv)) as caught:
        prepare_corpus(folder.recipe(**options), tmp_path / "out")
    assert message in str(caught.value)


def test_text_that_is_not_utf8_is_named_by_row(folder, tmp_path):
    folder.tone("a.wav")
    folder.tone("b.wav")
    folder.table("path,text,split\na.wav,café,train\nb.wav,cafe,train\n", encoding="latin-1")
    (problem,) = problems_of(folder, tmp_path)
    assert problem.startswith("row 2: column 2 is not UTF-8 (caf\\xe9)")
    folder.table("path,split\na.wav,train\n", encoding="utf-16")
    with pytest.raises(CorpusError, match="UTF-16"):
        prepare_corpus(folder.recipe(), tmp_path / "out")


def test_missing_table(folder, tmp_path):
    with pytest.raises(CorpusError, match="no such file"):
        prepare_corpus(folder.recipe(), tmp_path / "out")


def test_ids_stay_unique_when_paths_differ_by_slash_or_suffix(folder, tmp_path):
    for name in ("a/b.wav", "a_b.wav", "a_b.flac", "c.wav"):
        folder.tone(name)
    folder.table("path,split\n" + "".join(f"{name},train\n" for name in ("a/b.wav", "a_b.wav", "a_b.flac", "c.wav")))
    prepare_corpus(folder.recipe(), tmp_path / "out")
    ids = [cut.id for cut in load_split(tmp_path / "out", "train")]
    assert len(set(ids)) == 4
    assert all(identifier.startswith("a_b-") for identifier in ids[:3])
    assert ids[3] == "c"


def test_unlabelled_corpus_is_all_train(folder, tmp_path):
    folder.tone("a.wav")
    folder.tone("b.wav")
    folder.table("path,text,label,split\na.wav,HI,hi,test\nb.wav,,,\n")
    summary = prepare_corpus(folder.recipe(unlabelled=True), tmp_path / "out")
    assert list(summary["splits"]) == ["train"]
    assert [(s.text, s.custom) for cut in load_split(tmp_path / "out", "train") for s in cut.supervisions] == [(None, None)] * 2


def test_default_split(folder, tmp_path):
    folder.tone("a.wav")
    folder.table("path\na.wav\n")
    assert list(prepare_corpus(folder.recipe(default_split="test"), tmp_path / "out")["splits"]) == ["test"]


def test_same_corpus_gives_the_same_bytes_and_content_hash_ignores_the_place(folder, tmp_path):
    folder.tone("a.wav")
    folder.tone("b.wav", rate=8000)
    folder.table("path,text,split\na.wav,HI,train\nb.wav,YOU,train\n")
    first = prepare_corpus(folder.recipe(), tmp_path / "one")
    second = prepare_corpus(folder.recipe(), tmp_path / "two")
    assert first == second
    assert (tmp_path / "one/train.jsonl.gz").read_bytes() == (tmp_path / "two/train.jsonl.gz").read_bytes()
    assert (tmp_path / "one/train.jsonl.gz").read_bytes()[4:8] == bytes(4)  # gzip's time stamp
    assert first["sampling_rates"] == {"8000": 1, "16000": 1}

    shutil.copytree(folder.path, tmp_path / "moved")
    moved_recipe = folder.recipe().model_copy(update={"path": tmp_path / "moved/corpus.csv"})
    moved = prepare_corpus(moved_recipe, tmp_path / "three")
    assert moved["content_sha256"] == first["content_sha256"]
    assert moved["splits"]["train"]["sha256"] != first["splits"]["train"]["sha256"]

    folder.tone("a.wav", frequency=441.0)
    assert prepare_corpus(folder.recipe(), tmp_path / "four")["content_sha256"] != first["content_sha256"]


def test_older_manifests_are_replaced_only_by_complete_ones(folder, tmp_path):
    folder.tone("a.wav")
    folder.table("path,split\na.wav,train\n")
    prepare_corpus(folder.recipe(), tmp_path / "out")
    before = gzip.decompress((tmp_path / "out/train.jsonl.gz").read_bytes())
    folder.table("path,split\na.wav,train\nmissing.wav,train\n")
    with pytest.raises(CorpusError):
        prepare_corpus(folder.recipe(), tmp_path / "out")
    assert gzip.decompress((tmp_path / "out/train.jsonl.gz").read_bytes()) == before


def test_recorded_digits(tmp_path, folder, recordings):
    folder.table((recordings / "digits.csv").read_text())
    recipe = folder.recipe(audio_root=recordings, columns={"label": "digit"}, dev_fraction=0.1)
    summary = prepare_corpus(recipe, tmp_path / "out")
    assert sum(split["utterances"] for split in summary["splits"].values()) == 120
    assert summary["sampling_rates"] == {"8000": 120}
    assert summary["splits"]["train"]["speakers"] == 6
    assert {cut.supervisions[0].custom["label"] for cut in load_split(tmp_path / "out", "train")} == set("0123456789")
