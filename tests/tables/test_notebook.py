"""Data frames and figures for notebooks, and docs/python.md, whose code is run."""

import os
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import ROOT
from evaluate.tone_corpus import PITCH, SPEAKERS, tone

from speechft.encoders import random_encoder
from speechft.errors import TableError
from speechft.tables import compare, plot_alpha

BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "docs/python.md").read_text(), re.DOTALL)


@pytest.fixture
def by_alpha(cells_of):
    """Cells of a pre-trained encoder, a fine-tuned one, and a merge at two alphas; of the last one a single task."""
    cells_of("e/none/pretrained", KS=[80, 84, 88], PR=30)
    cells_of("e/f/stable_ft", KS=[90, 92, 94], PR=[20, 21])
    cells_of("e/f/speech_ft@0.25", KS=91, PR=22)
    return cells_of("e/f/speech_ft@0.50", KS=93)[0].parents[3]


def test_a_data_frame_has_means_and_intervals(by_alpha):
    frame = compare(by_alpha)
    assert list(frame.index) == [
        ("e", "none", "pretrained"), ("e", "f", "speech_ft@0.25"), ("e", "f", "speech_ft@0.50"), ("e", "f", "stable_ft")
    ]  # fmt: skip
    assert frame["KS"]["mean"].tolist() == [84, 91, 93, 92]
    # Student's t with two degrees of freedom at 97.5 %, times the standard error 4 / sqrt(3).
    assert frame["KS"]["half_width"].iloc[0] == pytest.approx(4.302653 * 4 / 3**0.5)
    assert np.isnan(frame["KS"]["half_width"].iloc[1])
    assert np.isnan(frame["PR"]["mean"].iloc[2])
    assert frame["PR"]["seeds"].tolist() == [1, 1, 0, 2]
    assert compare(sorted(by_alpha.rglob("ks.json"))).columns.get_level_values(0).unique().tolist() == ["KS"]


def test_a_curve_has_the_ends_of_the_merge(by_alpha):
    panels = {panel.get_title("left"): panel for panel in plot_alpha(by_alpha).axes}
    keyword = next(panel for title, panel in panels.items() if title.startswith("KS"))
    curve = next(line for line in keyword.get_lines() if len(line.get_xdata()) > 2)
    assert list(zip(curve.get_xdata(), curve.get_ydata(), strict=True)) == [(0, 84), (0.25, 91), (0.5, 93), (1, 92)]


def test_curves_that_cannot_be_told(by_alpha, cells_of):
    with pytest.raises(TableError, match="Unknown curve 'e_f_speech'. Did you mean 'e_f_speech_ft'"):
        plot_alpha(by_alpha, "e_f_speech")
    cells_of("e/g/speech_ft@0.25", KS=1)
    with pytest.raises(TableError, match="form 2 curves. Name one of e_f_speech_ft, e_g_speech_ft"):
        plot_alpha(by_alpha)
    with pytest.raises(TableError, match="needed as the folder of cells"):
        compare(by_alpha / "nothing")


@pytest.fixture
def notebook(tmp_path, monkeypatch):
    """A folder with what the page takes for granted: two encoders, a recording, a corpus of tones whose pitch is the accent."""
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate(("base", "finetuned")):
        random_encoder("hubert", f"models/{name}", seed=seed, encoder_layers=1)
    rows, random = ["path,split,accent"], np.random.default_rng(0)
    for split, count in (("train", 9), ("dev", 3), ("test", 3)):
        for number in range(count):
            accent = list(PITCH)[number % len(PITCH)]
            soundfile.write(f"{split}{number}.wav", tone(PITCH[accent], SPEAKERS[0], 16000, random), 16000)
            rows.append(f"{split}{number}.wav,{split},{accent}")
    Path("corpus.csv").write_text("\n".join(rows) + "\n")
    os.link("train0.wav", "speech.wav")
    return tmp_path


def test_the_page_is_short():
    assert sum(len([line for line in block.splitlines() if line.strip()]) for block in BLOCKS) < 40


@pytest.mark.timeout(300)
def test_the_code_of_the_page_runs(notebook):
    names = {}
    for block in BLOCKS:
        exec(block, names)
    assert names["output"].hidden_states[-1].shape[:1] == (2,)
    assert names["output"].lengths.tolist() == [49, 24]
    assert list(names["merged"]) == [0, 0.25, 0.5, 0.75, 1]
    table = names["table"]
    assert [method for *_, method in table.index] == [f"speech_ft@{alpha:.2f}" for alpha in names["merged"]]
    assert table["accent_uar"]["seeds"].tolist() == [3] * 5
    assert table["accent_uar"]["mean"].between(0, 100).all()
    assert table["accent_uar"]["half_width"].notna().all()
    assert (notebook / "alpha.png").stat().st_size > 10_000
