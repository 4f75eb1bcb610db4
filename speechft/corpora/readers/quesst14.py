"""QUESST 2014 (Anguera et al., 2014), for QbE: the queries and documents in non-native English, as in SUPERB."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from xml.etree import ElementTree

from speechft.corpora.published import Reading
from speechft.corpora.utterances import Count, Listing
from speechft.errors import CorpusError
from speechft.recipes.corpora import Quesst14

SOURCE = (
    "Get quesst14Database.tgz from https://speech.fit.vut.cz/software/quesst-2014-multilingual-database-query-by-example-keyword-spotting; "
    "`path` is its folder quesst14Database, with Audio/, dev_queries/, eval_queries/ and scoring/."
)
LANGUAGE = "nnenglish"
QUERIES = {"dev": "dev", "test": "eval"}
_UTTERANCES = "language_key_utterances.lst"

EXPECTED = (
    Count("dev", "label query", 138, "scoring/language_key_dev.lst", certain=False),
    Count("test", "label query", 138, "scoring/language_key_eval.lst", certain=False),
    Count("test", "label document", 2_438, f"scoring/{_UTTERANCES}", certain=False),
)


def read_quesst14(recipe: Quesst14) -> Listing:
    """List QUESST's queries of dev and eval (our test), and its documents, which are in test but are also searched for dev queries.

    Relevant documents come from the LEXEME lines of scoring/groundtruth_quesst14_{dev,eval}/*.rttm: field 2 is the document, field 6 the
    term. The list of terms next to it (*.tlist.xml) maps terms to queries if they differ. Documents in other languages are left out.

    Raises:
        CorpusError: a folder, list or ground truth is missing, or no query has a document.
    """
    reading = Reading("QUESST 2014", recipe.path, SOURCE)
    reading.folder(recipe.path)
    scoring = reading.folder(recipe.path / "scoring")
    documents = _members(reading, scoring / _UTTERANCES)
    known = {path.stem for path in documents}
    for split, name in QUERIES.items():
        queries = _members(reading, scoring / f"language_key_{name}.lst")
        folder = scoring / f"groundtruth_quesst14_{name}"
        holding = _ground_truth(reading, folder, f"quesst14_{name}")
        relevant = {path.stem: sorted(holding[path.stem] & known) for path in queries}
        if queries and not any(relevant.values()):
            raise CorpusError(f"{folder}: no query of {name} in {LANGUAGE} is in a document that {_UTTERANCES} lists. {SOURCE}")
        for path in queries:
            reading.add(path.stem, path, split, label="query", relevant=" ".join(relevant[path.stem]) or None)
    for path in documents:
        reading.add(path.stem, path, "test", label="document")
    return reading.listing(EXPECTED)


def _members(reading: Reading, path: Path) -> list[Path]:
    """Return the recordings of a list that are in non-native English."""
    members: list[Path] = []
    for number, line in reading.lines(path, "as a list of recordings and languages of QUESST 2014"):
        fields = line.split()
        if len(fields) != 2:
            reading.bad_line(path, number, f"{line.strip()!r} is not `path language`")
        elif fields[1] == LANGUAGE:
            # Paths in the list begin with the root folder.
            inside = reading.root.joinpath(*Path(fields[0]).parts[1:])
            members.append(inside if inside.is_file() or not (reading.root / fields[0]).is_file() else reading.root / fields[0])
    return members


def _ground_truth(reading: Reading, folder: Path, name: str) -> defaultdict[str, set[str]]:
    """Return query -> documents that contain it."""
    queries: dict[str, str] = {}
    terms = folder / f"{name}.tlist.xml"
    if terms.is_file():
        try:
            for term in ElementTree.parse(terms).iter("term"):
                queries[(term.findtext("termtext") or "").strip()] = term.get("termid", "")
        except ElementTree.ParseError as error:
            raise CorpusError(f"{terms}: is not XML ({error}). {SOURCE}") from None
    path = folder / f"{name}.rttm"
    holding: defaultdict[str, set[str]] = defaultdict(set)
    for _, line in reading.lines(path, "for which documents hold which query"):
        fields = line.split()
        if fields[0] == "LEXEME" and len(fields) > 5:
            holding[queries.get(fields[5], fields[5])].add(fields[1])
    return holding
