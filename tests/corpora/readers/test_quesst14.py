import pytest

from speechft.errors import CorpusError
from speechft.tasks import get_task

TERM = '<term termid="{0}"><termtext>{0}</termtext></term>'


def build_quesst(skeleton):
    for number in (1, 2, 3):
        skeleton.audio(f"Audio/quesst14_{number:05d}.wav", rate=8_000)
    skeleton.text(
        "scoring/language_key_utterances.lst",
        "quesst14Database/Audio/quesst14_00001.wav nnenglish",
        "quesst14Database/Audio/quesst14_00002.wav nnenglish",
        "quesst14Database/Audio/quesst14_00003.wav romanian",
    )
    for part in ("dev", "eval"):
        queries = [f"quesst14_{part}_000{number}" for number in (1, 2)]
        skeleton.text(
            f"scoring/language_key_{part}.lst",
            *(
                f"quesst14Database/{part}_queries/{query}.wav {language}"
                for query, language in zip(queries, ("nnenglish", "czech"), strict=True)
            ),
        )
        for query in queries:
            skeleton.audio(f"{part}_queries/{query}.wav", rate=8_000)
        skeleton.text(
            f"scoring/groundtruth_quesst14_{part}/quesst14_{part}.rttm",
            "SPKR-INFO quesst14_00001 1 <NA> <NA> <NA> unknown lex <NA>",
            *(
                f"LEXEME quesst14_0000{number} 1 0.00 1.00 {query} lex lex <NA>"
                for number, query in ((2, queries[0]), (3, queries[0]), (1, queries[1]))
            ),
        )
        skeleton.text(
            f"scoring/groundtruth_quesst14_{part}/quesst14_{part}.tlist.xml", "<termlist>", *map(TERM.format, queries), "</termlist>"
        )
    return skeleton


quesst = pytest.fixture(build_quesst)


def test_english_queries_and_documents_with_what_is_relevant(quesst):
    _, splits = quesst.prepare("quesst14")
    assert {split: [cut.id for cut in cuts] for split, cuts in splits.items()} == {
        "dev": ["quesst14_dev_0001"],
        "test": ["quesst14_eval_0001", "quesst14_00001", "quesst14_00002"],
    }
    task = get_task("qbe")
    assert [task.kind(cut) for cut in splits["test"]] == ["query", "document", "document"]
    assert task.relevant(splits["dev"][0]) == ("quesst14_00002",)
    assert task.label_set(splits["test"]).symbols == ()


def test_terms_whose_text_differs_from_the_query_are_translated(quesst):
    folder = "scoring/groundtruth_quesst14_dev"
    text = (quesst.path / f"{folder}/quesst14_dev.rttm").read_text().replace("quesst14_dev_0001", "hello")
    quesst.text(f"{folder}/quesst14_dev.rttm", text)
    with pytest.raises(CorpusError, match="no query of dev in nnenglish is in a document"):
        quesst.prepare("quesst14")
    quesst.text(f"{folder}/quesst14_dev.tlist.xml", '<t><term termid="quesst14_dev_0001"><termtext>hello</termtext></term></t>')
    _, splits = quesst.prepare("quesst14")
    assert get_task("qbe").relevant(splits["dev"][0]) == ("quesst14_00002",)


def test_what_is_missing_is_named(quesst):
    (quesst.path / "Audio/quesst14_00002.wav").unlink()
    with pytest.raises(CorpusError, match="Audio/quesst14_00002.wav: no such file"):
        quesst.prepare("quesst14")
    (quesst.path / "scoring/groundtruth_quesst14_eval/quesst14_eval.rttm").unlink()
    with pytest.raises(CorpusError, match=r"quesst14_eval.rttm: no such file.*quesst14Database.tgz"):
        quesst.prepare("quesst14")
    (quesst.path / "scoring").rename(quesst.path / "score")
    with pytest.raises(CorpusError, match=r"scoring: no such folder.*quesst14Database.tgz"):
        quesst.prepare("quesst14")
