"""Fluent Speech Commands (Lugosch et al., 2019), for IC. lhotse's recipe drops speakers and slot names."""

from __future__ import annotations

from speechft.corpora.published import Reading, published
from speechft.corpora.utterances import Count, Listing
from speechft.errors import CorpusError
from speechft.files.csv_tables import read_table
from speechft.recipes.corpora import FluentSpeechCommands

SOURCE = (
    "Ask for Fluent Speech Commands at https://fluent.ai/fluent-speech-commands-a-dataset-for-spoken-language-understanding-research/; "
    "`path` is the folder fluent_speech_commands_dataset of its archive, with data/ and wavs/."
)
TABLES = {"train": "train_data.csv", "dev": "valid_data.csv", "test": "test_data.csv"}
COLUMNS = ("path", "speakerId", "transcription", "action", "object", "location")

_TABLE_OF = {split: f"data/{name}" for split, name in TABLES.items()}
EXPECTED = (
    *published(_TABLE_OF, ("utterances", "speakers"), train=(23_132, 77), dev=(3_118, 10), test=(3_793, 10)),
    Count("train", "labels", 31, "data/train_data.csv", certain=False),
)


def read_fluent_speech_commands(recipe: FluentSpeechCommands) -> Listing:
    """List the rows of Fluent Speech Commands' three tables, in order; labels are `action|object|location`, ids are recording names.

    Raises:
        CorpusError: the folder or a table is missing, or a table has other columns.
    """
    reading = Reading("Fluent Speech Commands", recipe.path, SOURCE)
    reading.folder(recipe.path)
    for split, name in TABLES.items():
        path = recipe.path / "data" / name
        rows = read_table(path, f"as the list of {split} of Fluent Speech Commands", SOURCE)
        header = rows[0][1] if rows else []
        if missing := [column for column in COLUMNS if column not in header]:
            raise CorpusError(f"{path}: has no column {', '.join(missing)}. {SOURCE}")
        for number, values in rows[1:]:
            cells = dict(zip(header, values, strict=False))
            if len(values) != len(header) or not all(cells[column].strip() for column in COLUMNS):
                reading.bad_line(path, number, f"a cell is empty or missing: {', '.join(values)}")
                continue
            label = "|".join(cells[slot].strip() for slot in ("action", "object", "location"))
            audio = recipe.path / cells["path"]
            reading.add(audio.stem, audio, split, text=cells["transcription"], speaker=cells["speakerId"], label=label)
    return reading.listing(EXPECTED)
