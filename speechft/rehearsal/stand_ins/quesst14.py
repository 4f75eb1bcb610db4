"""Stand-in for QUESST 2014: queries and documents at 8 kHz in several languages, and the matches as RTTM."""

from __future__ import annotations

from speechft.corpora.readers.quesst14 import LANGUAGE, QUERIES
from speechft.rehearsal.stand_ins.base import SIZES, Layout

RATE = 8_000
_ROOT = "quesst14Database"
Row = dict[str, str]


def build(layout: Layout) -> None:
    """Write queries by two voices each. The last term of dev and of eval occurs only in a document of another language."""
    sizes = SIZES["quesst14"]
    rows = layout.speech.table("queries.csv")
    queries = {split: _queries(rows, split, sizes[f"{split} terms"]) for split in QUERIES}
    absent = [terms[list(terms)[-1]] for terms in queries.values()]
    avoided = {name for members in absent for name in members[0]["relevant"].split()}
    chosen: dict[str, None] = {}
    for terms in queries.values():
        for members in list(terms.values())[:-1]:
            fitting = [name for name in members[0]["relevant"].split() if name not in avoided]
            chosen |= dict.fromkeys(fitting[: sizes["documents per term"]])
    holding = {name for terms in queries.values() for members in terms.values() for name in members[0]["relevant"].split()}
    ids = [_identifier(row["path"]) for row in rows if row["label"] == "document"]
    chosen |= dict.fromkeys([name for name in ids if name not in holding][: sizes["documents without a term"]])
    strangers = [members[0]["relevant"].split()[0] for members in absent]
    # Sorted by recording, so that recordings of a term are not adjacent.
    documents = {name: f"quesst14_{place:05}" for place, name in enumerate(sorted([*chosen, *strangers]), start=1)}
    paths = {_identifier(path): path for path in layout.speech.of_path}
    for name, document in documents.items():
        layout.say(f"Audio/{document}.wav", layout.speech.of_path[paths[name]], RATE)
    layout.text(
        "scoring/language_key_utterances.lst",
        *(f"{_ROOT}/Audio/{document}.wav {'albanian' if name in strangers else LANGUAGE}" for name, document in documents.items()),
    )
    for split, part in QUERIES.items():
        _write_queries(layout, part, queries[split], documents)


def _queries(rows: list[Row], split: str, number: int) -> dict[str, list[Row]]:
    """The first terms of a split, each with its queries."""
    terms: dict[str, list[Row]] = {}
    for row in rows:
        if row["label"] == "query" and row["split"] == split:
            terms.setdefault(row["text"], []).append(row)
    return dict(list(terms.items())[:number])


def _identifier(path: str) -> str:
    return path.removesuffix(".opus").replace("/", "_")


def _write_queries(layout: Layout, part: str, terms: dict[str, list[Row]], documents: dict[str, str]) -> None:
    languages: list[str] = []
    lexemes: list[str] = []
    listed: list[str] = []
    spoken = [row for members in terms.values() for row in members]
    for number, row in enumerate([*spoken, spoken[0]], start=1):
        name = f"quesst14_{part}_{number:04}"
        layout.say(f"{part}_queries/{name}.wav", layout.speech.of_path[row["path"]], RATE)
        languages.append(f"{_ROOT}/{part}_queries/{name}.wav {LANGUAGE if number <= len(spoken) else 'czech'}")
        listed.append(f'<term termid="{name}"><termtext>{name}</termtext></term>')
        lexemes += [
            f"LEXEME {documents[document]} 1 0.00 2.00 {name} lex lex <NA>" for document in row["relevant"].split() if document in documents
        ]
    speakers = [f"SPKR-INFO {document} 1 <NA> <NA> <NA> unknown lex <NA>" for document in documents.values()]
    truth = f"scoring/groundtruth_quesst14_{part}/quesst14_{part}"
    layout.text(f"scoring/language_key_{part}.lst", *languages)
    layout.text(f"{truth}.rttm", *speakers, *lexemes)
    layout.text(f"{truth}.tlist.xml", "<termlist>", *listed, "</termlist>")
