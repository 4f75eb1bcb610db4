"""The report of an experiment: one page from whatever there is."""

import json
import re

import pytest
import yaml
from browser import CONTRAST, look, needs_browser
from conftest import ROOT
from typer.testing import CliRunner

from speechft.cli import app
from speechft.errors import OutputError
from speechft.recipes.tables import Comparison, ConnectionRecipe, ReportRecipe, TableRecipe, TableRow
from speechft.tables.arrange import arrange
from speechft.tables.cells import existing_cells
from speechft.tables.report import build_report
from speechft.tables.summary import summary_of

PUBLISHED = ROOT / "config/published.csv"
ROWS = tuple(
    TableRow(encoder="e", finetuning=tuning, method=method, label=label)
    for tuning, method, label in (
        ("none", "pretrained", "Pre-trained"),
        ("asr", "stable_ft", "Stable-FT"),
        ("asr", "speech_ft", "Speech-FT"),
    )
)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The report of the demo's committed cells, as the command writes it."""
    out = tmp_path_factory.mktemp("report") / "report.html"
    command = ["report", str(ROOT / "config/demo.yaml"), "--results", str(ROOT / "docs/results/demo"), "--out", str(out)]
    done = CliRunner().invoke(app, [*command, "--published", str(PUBLISHED)])
    assert done.exit_code == 0, done.output
    assert done.output.strip() == str(out)
    return out.read_text(encoding="utf-8")


def test_the_page_is_complete_in_itself(page):
    outside = re.findall(r'(?:src|href)="(?!data:|#)([^"]*)"', page)
    assert not outside
    assert not re.findall(r"url\(|@import|https?://", re.sub(r'"data:[^"]*"', "", page))
    assert 'name="viewport"' in page
    assert page.count("<figure>") == page.count('<img src="data:image/svg+xml;base64,') >= 2
    assert all(text for text in re.findall(r'<img [^>]*alt="([^"]*)"', page))


def test_every_number_leads_to_what_it_comes_from(page):
    links = set(re.findall(r'href="#(wav2vec2_mini-[^"]*)"', page))
    assert len(links) >= 9
    assert links <= set(re.findall(r'id="([^"]*)"', page))
    cell = json.loads((ROOT / "docs/results/demo/cells/wav2vec2_mini/pr_sentences/speech_ft/sid.json").read_text())
    for text in (cell["model"]["sha256"], cell["hashes"]["manifests"]["test"], "encoder passes", '<th scope="col">dev SID</th>'):
        assert text in page


def test_the_summary_counts_tasks(cells_of):
    cells = []
    for model, values in {
        "none/pretrained": {"PR": [10, 11], "SID": [50, 51], "KS": [60, 60], "ER": [40.0]},
        "asr/stable_ft": {"PR": [8, 9], "SID": [40, 41], "KS": [59, 61], "ER": [42.0]},
        "asr/speech_ft": {"PR": [2, 3], "SID": [60, 61], "KS": [58, 59], "ER": [43.0]},
    }.items():
        cells += cells_of(model, **values)
    recipe = TableRecipe(title="T", rows=ROWS, tasks=("pr", "sid", "ks", "er", "ic"))
    table = arrange(recipe, existing_cells(cells), None, "t")
    # A single seed (ER) has no interval, and IC is pending.
    (sentence,) = summary_of(table, [Comparison(row=2, ends=(0, 1))])
    assert sentence == (
        "T, e, asr: Speech-FT is ahead of both Pre-trained and Stable-FT on 3 of 4 tasks, by more than the 95 % interval on 2; "
        "it is behind both Pre-trained and Stable-FT on 1."
    )
    assert summary_of(table, [Comparison(row=2, ends=(1,))])[0].startswith("T, e, asr: Speech-FT is ahead of Stable-FT on 3 of 4")


def test_what_is_pending_says_why_and_how_and_text_stays_text(tmp_path, cells_of):
    hostile = "</script><script>alert(1)</script>\x1b[0m {{ 7 * 7 }}"
    cells_of("asr/speech_ft", KS=[50, 60])
    recipe = TableRecipe(title=hostile, note=hostile, rows=ROWS, tasks=("ks",), command="snakemake -- results/cells/")
    report = ReportRecipe(title=hostile, note=hostile, tables={hostile: recipe})
    build_report(report, tmp_path, PUBLISHED, tmp_path / "r.html", {"e/none/pretrained/ks": hostile}, hostile)
    text = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "1 of 3 cells are measured" in text
    assert "<pre>snakemake -- results/cells/e/none/pretrained/ks.json</pre>" in text
    assert text.count("<script") == 1
    assert "\x1b" not in text
    assert "{{ 7 * 7 }}" in text


def test_a_connection_is_pending_then_measured(tmp_path):
    ends = {"start": ROWS[0], "end": ROWS[1]}
    line = ConnectionRecipe(title="From theta0", **ends, alphas=(0, 1), commands=("snakemake -- results/connections/line.json",))
    report = ReportRecipe(title="t", connections={"line": line})
    build_report(report, tmp_path, PUBLISHED, tmp_path / "r.html")
    text = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "0 of 1 connections are measured" in text
    assert "<pre>snakemake -- results/connections/line.json\n" in text
    names = {key: {"encoder": row.encoder, "finetuning": row.finetuning, "method": row.method, "sha256": "a"} for key, row in ends.items()}
    points = [{"alpha": alpha, "loss": 2.0 - alpha, "scores": {"SID": 50.0 + alpha}} for alpha in (0, 1)]
    metrics = [{"key": "SID", "name": "acc", "higher_is_better": True}]
    counts = {"schema": 1, "task": "sid", "split": "dev", "utterances": 6, "head": "end", "loss_barrier": 0.0, "error_barrier": 0.0}
    (tmp_path / "connections").mkdir()
    (tmp_path / "connections/line.json").write_text(json.dumps({**counts, **names, "points": points, "metrics": metrics}))
    (tmp_path / "models/e/asr/stable_ft").mkdir(parents=True)
    (tmp_path / "models/e/asr/stable_ft/training.csv").write_text("update,loss,dev_ASR\n1,2.0,\n2,1.0,0.5\n")
    build_report(report, tmp_path, PUBLISHED, tmp_path / "r.html")
    text = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "connections are measured" not in text
    assert "results/connections/line.json" not in text
    assert '<th scope="col" data-better="lower">loss ↓</th><th scope="col" data-better="higher">acc % ↑</th>' in text
    assert "Trainings of e" in text


def test_a_page_of_somebody_else_stays(tmp_path):
    (tmp_path / "r.html").write_text("<html>mine</html>")
    report = ReportRecipe(title="t", tables={"t": TableRecipe(title="t", rows=ROWS, tasks=("ks",))})
    with pytest.raises(OutputError, match="is not a page of `speechft report`"):
        build_report(report, tmp_path, PUBLISHED, tmp_path / "r.html")
    (tmp_path / "r.html").unlink()
    for _ in range(2):
        build_report(report, tmp_path, PUBLISHED, tmp_path / "r.html")


def test_trainings_and_curves_are_shown(tmp_path):
    experiment = yaml.safe_load((ROOT / "config/demo.yaml").read_text())
    (tmp_path / "e.yaml").write_text(yaml.safe_dump({**experiment, "tables": {}, "results": "r"}))
    model = tmp_path / "r/models/wav2vec2_mini/pr_sentences/stable_ft"
    model.mkdir(parents=True)
    (model / "training.csv").write_text("update,loss,dev_ASR\n1,2.0,\n2,1.0,0.5\n")
    done = CliRunner().invoke(app, ["report", str(tmp_path / "e.yaml"), "--results", str(tmp_path / "r"), "--published", str(PUBLISHED)])
    assert done.exit_code == 0, done.output
    text = (tmp_path / "r/report.html").read_text(encoding="utf-8")
    assert "Trainings of wav2vec2_mini" in text
    assert "alpha 0.25 (Speech-FT)" in text


_STATE = """
const table = document.querySelector("table[data-sortable]");
const names = () => [...table.tBodies[0].rows].map((row) => row.cells[0].textContent);
const shown = () => [...table.tBodies[0].rows].filter((row) => !row.hidden).length;
const number = document.querySelector("td[data-value]:not([data-value=''])").getBoundingClientRect();
"""


@needs_browser
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [390, 1400])
def test_it_can_be_read_on_every_screen(page, tmp_path, width, dark):
    probe = f"""{_STATE}{CONTRAST}
    return {{problems, faint, dark: matchMedia("(prefers-color-scheme: dark)").matches, inner: innerWidth, left: number.left,
             right: number.right, whole: document.documentElement.scrollWidth}};"""
    seen = look(page, tmp_path, probe, width=width, dark=dark)
    assert (seen["problems"], seen["faint"]) == ([], [])
    assert (seen["inner"], seen["dark"]) == (width, dark)
    assert 0 <= seen["left"] < seen["right"] <= width, "a number is on the screen without scrolling"
    assert seen["whole"] <= width, "nothing runs off the page"


@needs_browser
def test_tables_can_be_sorted_and_filtered(page, tmp_path):
    probe = f"""{_STATE}
    const before = names(), heads = [...table.tHead.rows[0].cells], sid = heads.findIndex((head) => head.textContent.includes("SID"));
    heads[sid].querySelector("button").click();
    const largest = names(), sorted = heads[sid].getAttribute("aria-sort");
    heads[sid].querySelector("button").click();
    const smallest = names(), field = document.querySelector("input[type=search]");
    field.value = "speech wav2vec2"; field.dispatchEvent(new Event("input"));
    const filtered = shown(), order = document.querySelector("select");
    order.value = ""; order.dispatchEvent(new Event("change"));
    const again = names();
    const link = document.querySelector("td a"), cell = document.getElementById(link.hash.slice(1)).closest("details");
    const closed = cell.open;
    location.hash = link.hash; dispatchEvent(new Event("hashchange"));
    return {{problems, before, largest, sorted, smallest, filtered, again, closed, open: cell.open,
             named: [...document.querySelectorAll("input, select")].every((part) => part.closest("label"))}};"""
    seen = look(page, tmp_path, probe)
    assert seen["problems"] == []
    assert seen["largest"] == ["Speech-FT", "Speech-FT, alpha from dev", "Pre-trained", "Stable-FT", "FBANK"]
    assert seen["smallest"] == seen["largest"][::-1]
    assert (seen["sorted"], seen["filtered"], seen["again"]) == ("descending", 2, seen["before"])
    assert (seen["closed"], seen["open"], seen["named"]) == (False, True, True)
