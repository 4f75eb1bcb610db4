"""Tables and numbers on pages come from committed cells: `python docs/site/numbers_of_cells.py` writes them between their marks."""

from __future__ import annotations

import re
import statistics
import tempfile
import textwrap
from pathlib import Path

from speechft.experiment.schema import load_experiment
from speechft.experiment.workflow import Workflow
from speechft.recipes.tables import ReportRecipe
from speechft.tables.arrange import arrange
from speechft.tables.cells import existing_cells
from speechft.tables.differences import arrange_differences
from speechft.tables.experiment import build_experiment
from speechft.tables.summary import ahead, sentence_of

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "docs/mini-superb.md"]


def shown(experiment: str, name: str) -> str:
    """A table or a curve of an experiment."""
    with tempfile.TemporaryDirectory() as folder:
        cells = ROOT / f"docs/results/{experiment}/cells"
        build_experiment(ROOT / f"config/{experiment}.yaml", cells, ROOT / "config/published.csv", folder, only=[name])
        lines = (Path(folder) / f"{name}.md").read_text(encoding="utf-8").splitlines()
    return "\n".join(line for line in lines if line.startswith("|"))


def mini() -> tuple[ReportRecipe, list[Path]]:
    """What the miniature benchmark shows, and its cells."""
    recipe = ReportRecipe.model_validate_json(Workflow(load_experiment(ROOT / "config/mini.yaml")).recipe("report"))
    return recipe, [*(ROOT / "docs/results/mini/cells").rglob("*.json")]


def detectable() -> str:
    """What difference from Pre-trained each task can show, beside the length of its scale: medians over the merged and fine-tuned rows."""
    recipe, files = mini()
    lines = ["| metric | filterbanks to best row | detectable difference | as a share |", "|---|---:|---:|---:|"]
    tables = {name: arrange(recipe.tables[name], existing_cells(files), None, name) for name in ("hubert", "wav2vec2")}
    compared = {name: arrange_differences(recipe.tables[name], files, name) for name in tables}
    for column in tables["hubert"].columns[:-1]:
        metric, scales, widths = column.metric, [], []
        for name, table in tables.items():
            found = next((place for place, other in enumerate(table.columns) if other.metric.key == metric.key), None)
            if found is None:
                continue
            means = [entry.mean for entry in table.columns[found].entries if entry.mean is not None]
            scales.append(abs((max if metric.higher_is_better else min)(means) - means[0]))
            pairs = zip(recipe.tables[name].differences, compared[name].columns[found].entries, strict=True)
            widths += [entry.half_width for (_, other), entry in pairs if table.rows[other].method == "pretrained" and entry.half_width]
        scale, width = statistics.fmean(scales), statistics.median(widths)
        lines.append(f"| {metric.title} | {metric.shown(scale)} | {metric.shown(width)} | {width / scale:.0%} |")
    return "\n".join(lines)


def evidence() -> str:
    """How Speech-FT stands on the miniature benchmark, wins and ties."""
    recipe, files = mini()
    cells = existing_cells(files)
    lines = []
    for name, encoder in (("hubert", "HuBERT-mini"), ("wav2vec2", "wav2vec2-mini")):
        table = arrange(recipe.tables[name], cells, None, name)
        for comparison in recipe.comparisons[name]:
            tuning = {"asr_sentences": "ASR", "sid_speakers": "SID"}[table.rows[comparison.row].finetuning]
            score = table.columns[-1]
            means = [score.metric.shown(score.entries[row].mean or 0.0) for row in (comparison.row, *comparison.ends)]
            others = " and ".join(f"{table.rows[row].label} {mean}" for row, mean in zip(comparison.ends, means[1:], strict=True))
            sure = [end for end in comparison.ends if ahead(score, comparison.row, end, by_more=True)]
            how = {0: "not by more than an interval", 1: f"by more than the interval against {table.rows[(sure or [0])[0]].label}"}
            whole = f"Score over ten tasks {means[0]} ({others}), {how.get(len(sure), 'by more than both intervals')}."
            text = f"{encoder} fine-tuned on {tuning}: {sentence_of(table, comparison)} {whole}"
            lines += textwrap.wrap(text, 100, initial_indent="* ", subsequent_indent="  ", break_on_hyphens=False)
    return "\n".join(lines)


def fill(text: str) -> str:
    """A page with every number between marks as the cells have it: `<!-- numbers: evidence -->`, or EXPERIMENT TABLE."""

    def filled(found: re.Match[str]) -> str:
        blocks = {"evidence": evidence, "detectable": detectable}
        block = blocks[found[2]]() if found[2] in blocks else shown(*found[2].split())
        return f"{found[1]}{block}\n{found[3]}"

    return re.sub(r"(<!-- numbers: ([\w ]+) -->\n).*?(<!-- end -->)", filled, text, flags=re.S)


if __name__ == "__main__":
    for page in PAGES:
        page.write_text(fill(page.read_text(encoding="utf-8")), encoding="utf-8")
