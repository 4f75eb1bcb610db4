"""Characters that vocabularies lack: the share that becomes `<unk>`, from the corpus to the table."""

import numpy as np
import pytest
import soundfile
import torch
from typer.testing import CliRunner

from speechft.cli import app
from speechft.files.structured import read_json
from speechft.recipes.tables import TableRecipe
from speechft.tables.metrics import METRICS
from speechft.tables.notes import table_notes
from speechft.tables.table import Column, Entry
from speechft.tasks import get_task
from speechft.tasks.unknown import unknown_share, unknown_text


def test_share_of_targets():
    labels = get_task("asr").label_set([])
    unknown = labels.symbols.index("<unk>")
    assert unknown_share([torch.tensor([5, unknown, 6]), torch.tensor([unknown])], labels) == 0.5
    assert unknown_share([torch.tensor([5])], labels) == 0.0
    assert unknown_share([torch.tensor(1)], get_task("ks", classes=["a", "b"]).label_set([])) is None


def test_share_of_transcripts():
    # SUPERB ends each sentence with two symbols: CAFÉ|</s>, and CAFE|</s>.
    found = unknown_text({"train": ["café"], "test": ["cafe", "büx"]})
    assert found["asr"] == {"shares": {"train": round(1 / 6, 6), "test": round(1 / 11, 6)}, "characters": "ÉÜ"}
    assert found["asr_zh"]["shares"]["train"] == 0.0
    assert set(found["asr_zh"]["characters"]) == {"E", "B", "Ü", "X"}
    assert unknown_text({"train": ["PLAIN WORDS"], "test": ["WORDS"]}) == {}


def test_prepare_prints_the_share(tmp_path):
    rows = ["path,text,split"]
    for number, text in enumerate(("HELLO", "HÉLLO")):
        soundfile.write(tmp_path / f"{number}.wav", np.full(1600, 0.1), 16_000)
        rows.append(f"{number}.wav,{text},train")
    (tmp_path / "c.csv").write_text("\n".join(rows), encoding="utf-8")
    said = CliRunner().invoke(app, ["prepare", "--csv", str(tmp_path / "c.csv"), "--out", str(tmp_path / "out")]).output
    assert "text: for asr, 7.14 % of train becomes <unk>; not in its vocabulary: É" in said
    assert read_json(tmp_path / "out/corpus.json")["unknown"]["asr"]["shares"] == {"train": round(1 / 14, 6)}


@pytest.mark.parametrize(("share", "noted"), [(0.002, False), (0.123, True)])
def test_a_table_notes_large_shares(share, noted):
    row = {"encoder": "e", "finetuning": "none", "method": "pretrained", "label": "P"}
    recipe = TableRecipe(title="t", rows=[row], tasks=["asr"])
    column = Column(METRICS["ASR"], (Entry((10.0,), protocol="quick", unknown=share),))
    assert any(note.startswith("ASR: 12.3 % of the symbols of test are <unk>") for note in table_notes(recipe, [column])) == noted
