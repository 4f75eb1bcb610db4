"""`speechft <verb>`: the command line, and the only thing that the workflow's rules call.

Each verb imports what it needs when it runs, so `--help` and the light verbs start at once.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console

from speechft.errors import ConfigError, SpeechFTError

app = typer.Typer(
    help="Stable fine-tuning, merging and SUPERB evaluation of speech encoders.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)

Recipe = Annotated[Path | None, typer.Option("--recipe", help="Recipe file (JSON); see docs/configuration.md.")]
Out = Annotated[Path, typer.Option("--out", "-o", help="Where the result goes; it appears when it is complete.")]
Threads = Annotated[int | None, typer.Option("--threads", min=1, help="CPU threads; default: all that this process may use.")]
WorkDir = Annotated[Path | None, typer.Option("--work-dir", help="Folder for checkpoints and caches that let an interrupted job continue.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
Family = Annotated[str | None, typer.Option(help="Encoder family; detected from the content when not given.")]


def _use_threads(threads: int | None) -> None:
    """Bind the numerical libraries to `threads`; must run before torch is imported."""
    count = threads or len(os.sched_getaffinity(0))
    os.environ["OMP_NUM_THREADS"] = str(count)
    # Threads that spin long while they wait starve other jobs on the same cores, and through them this one: several times slower on a
    # busy machine. Threads that sleep at once slow small tensors down by half. 10000 turns are some microseconds.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    import torch

    torch.set_num_threads(count)


def _need(recipe: Path | None, verb: str) -> Path:
    if recipe is None:
        raise typer.BadParameter(f"`speechft {verb}` needs --recipe FILE.json")
    return recipe


@app.command()
def prepare(
    out: Out, recipe: Recipe = None, csv: Annotated[Path | None, typer.Option(help="A CSV corpus with our column names.")] = None
) -> None:
    """Check a corpus and write its manifests (lhotse), one file a split.

    Example: `speechft prepare --csv my_corpus.csv --out manifests/my_corpus`
    """
    from speechft.corpora import prepare_corpus
    from speechft.recipes import CorpusRecipe, load_recipe

    if (recipe is None) == (csv is None):
        raise typer.BadParameter("give either --recipe FILE.json or --csv FILE.csv")
    corpus = load_recipe(CorpusRecipe, recipe) if recipe else CorpusRecipe(kind="csv", path=csv)
    summary = prepare_corpus(corpus, out)
    for split, found in summary["splits"].items():
        print(f"{split}: {found['utterances']} utterances, {found['hours']:.3f} h, {found['speakers']} speakers")


@app.command()
def unite(corpora: Annotated[list[Path], typer.Argument(help="Folders that `speechft prepare` made.")], out: Out) -> None:
    """Put prepared corpora together as one.

    Example: `speechft unite manifests/digits manifests/keywords --out manifests/words`
    """
    from speechft.corpora import unite_corpora

    unite_corpora(corpora, out)


@app.command()
def pretrain(
    manifests: Annotated[list[Path], typer.Argument(help="Folders of manifests; their train splits are listened to.")],
    out: Out,
    recipe: Recipe = None,
    work_dir: WorkDir = None,
    threads: Threads = None,
) -> None:
    """Pre-train a small HuBERT from random weights with fairseq.

    Example: `speechft pretrain manifests/speech --recipe pretrain.json --out models/my_hubert`
    """
    from speechft.recipes import PretrainRecipe, load_recipe

    chosen = load_recipe(PretrainRecipe, recipe) if recipe else PretrainRecipe()
    _use_threads(threads)
    from speechft.finetune import pretrain as run

    run(chosen, manifests, out, work_dir)


@app.command()
def fetch(
    name: Annotated[str | None, typer.Argument(help="A checkpoint of config/encoders.tsv, e.g. hubert_base.")] = None,
    url: Annotated[str | None, typer.Option(help="Address of another checkpoint, or a newer one of NAME.")] = None,
    sha256: Annotated[
        str | None, typer.Option(help="Expected SHA-256; default: what is known of NAME, else that of the first download.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="The file; default for a NAME: checkpoints/ and its usual name.")] = None,
) -> None:
    """Download a checkpoint, continue a download that was cut, or check a file that is there already.

    Example: `speechft fetch hubert_base --out checkpoints/hubert_base_ls960.pt`
    """
    from speechft.encoders.fetching import fetch as run
    from speechft.encoders.public import FOLDER, public_checkpoint

    if name is None and (url is None or out is None):
        raise typer.BadParameter("give the NAME of a checkpoint of config/encoders.tsv, or --url and --out")
    known = public_checkpoint(name) if name else None
    if known:
        logging.info("%s: licence %s, see %s", known.name, known.licence, known.source)
        url, sha256, out = url or known.url, sha256 or known.sha256, out or FOLDER / known.file
    assert url is not None
    assert out is not None
    run(url, out, sha256=sha256, bytes=known.bytes if known else None)


@app.command("import")
def import_(
    checkpoint: Annotated[Path, typer.Argument(help="fairseq or s3prl checkpoint, or a transformers directory.")],
    out: Out,
    family: Family = None,
    format: Annotated[str | None, typer.Option(help="Layout of the file; detected from the content when not given.")] = None,
    config: Annotated[Path | None, typer.Option(help="JSON file with model settings that the checkpoint does not carry.")] = None,
    sha256: Annotated[str | None, typer.Option(help="Refuse a file with another SHA-256; default: the one in CHECKPOINT.sha256.")] = None,
) -> None:
    """Turn a published checkpoint into an encoder directory.

    Example: `speechft import hubert_base_ls960.pt --out models/hubert_base`
    """
    from speechft.encoders import import_checkpoint
    from speechft.encoders.fetching import recorded_hash
    from speechft.errors import CheckpointError
    from speechft.files import read_json, sha256_file

    settings = read_json(config) if config else None
    if settings is not None and not isinstance(settings, dict):
        raise ConfigError(f"{config}: model settings are a mapping of keys, found {type(settings).__name__}.")
    expected = sha256.lower() if sha256 else recorded_hash(checkpoint)
    if expected and checkpoint.is_file() and (found := sha256_file(checkpoint)) != expected:
        raise CheckpointError(
            f"{checkpoint}: has SHA-256 {found}, expected {expected}. The download is damaged or another file; fetch it again."
        )
    import_checkpoint(checkpoint, out, family=family, format=format, config=settings)


@app.command()
def export(
    model: Annotated[Path, typer.Argument(help="Encoder directory.")],
    out: Out,
    format: Annotated[str, typer.Option(help="fairseq, s3prl or transformers.")] = "fairseq",
) -> None:
    """Write an encoder directory in another toolkit's layout.

    Example: `speechft export models/merged --format fairseq --out merged.pt`
    """
    from speechft.encoders import export_checkpoint

    export_checkpoint(model, out, format=format)


@app.command()
def finetune(
    model: Annotated[Path, typer.Argument(help="Encoder directory of the pre-trained encoder.")],
    manifests: Annotated[Path, typer.Argument(help="Folder of manifests with train and dev.")],
    out: Out,
    recipe: Recipe = None,
    work_dir: WorkDir = None,
    threads: Threads = None,
) -> None:
    """Stage 1: fine-tune encoder and head on a task with fairseq's trainer; keep the encoder that is best on dev.

    Example: `speechft finetune models/hubert_base manifests/voxceleb1 --recipe sid.json --out models/stable_ft`
    """
    from speechft.recipes import FinetuneRecipe, load_recipe

    chosen = load_recipe(FinetuneRecipe, _need(recipe, "finetune"))
    _use_threads(threads)
    from speechft.finetune import finetune as run

    run(model, chosen, manifests, out, work_dir)


@app.command()
def merge(
    base: Annotated[Path, typer.Argument(help="Encoder directory of the pre-trained encoder.")],
    finetuned: Annotated[list[Path], typer.Argument(help="Encoder directories of fine-tuned encoders.")],
    out: Out,
    alpha: Annotated[float | None, typer.Option(help="Weight of the fine-tuned side; 0.25 unless a recipe says otherwise.")] = None,
    method: Annotated[str | None, typer.Option(help="Merge method; linear unless a recipe says otherwise.")] = None,
    recipe: Recipe = None,
    extrapolate: Annotated[bool, typer.Option(help="Allow alpha outside [0, 1].")] = False,
) -> None:
    """Stage 2: interpolate a pre-trained and fine-tuned encoders in weight space.

    Example: `speechft merge models/hubert_base models/stable_ft --alpha 0.25 --out models/speech_ft`
    """
    from speechft.merge import merge as run
    from speechft.recipes import MergeRecipe, load_recipe

    chosen = load_recipe(MergeRecipe, recipe) if recipe else MergeRecipe()
    parameters = {**chosen.parameters, **({"extrapolate": True} if extrapolate else {})}
    run(base, finetuned, out, method=method or chosen.method, alpha=chosen.alpha if alpha is None else alpha, **parameters)


@app.command()
def evaluate(
    model: Annotated[Path, typer.Argument(help="Encoder directory; it stays frozen.")],
    task: Annotated[str, typer.Argument(help="Task, e.g. ks.")],
    manifests: Annotated[Path, typer.Argument(help="Folder of manifests with train, dev and test.")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="The cell (JSON); it appears when it is complete.")] = None,
    recipe: Recipe = None,
    name: Annotated[str | None, typer.Option(help="encoder/finetuning/method, written into the cell.")] = None,
    work_dir: WorkDir = None,
    threads: Threads = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what it will cost: encoder passes, memory, disk.")] = False,
    as_json: AsJson = False,
) -> None:
    """Stage 3: train a task's head on the frozen encoder, choose the learning rate on dev, score test; write a cell.

    Example: `speechft evaluate models/speech_ft ks manifests/speech_commands --out ks.json`
    """
    if out is None and not dry_run:
        raise typer.BadParameter("`speechft evaluate` needs --out FILE.json, or --dry-run")
    from speechft.recipes import EvaluationRecipe, load_recipe

    chosen = load_recipe(EvaluationRecipe, recipe) if recipe else None
    if chosen and chosen.task != task:
        raise ConfigError(f"{recipe}: is a recipe of task {chosen.task!r}, not {task!r}.")
    _use_threads(threads)
    if dry_run:
        from speechft.evaluate import plan_evaluation

        plan = plan_evaluation(model, task, manifests, recipe=chosen)
        print(json.dumps(plan.to_json()) if as_json else plan)
        return
    assert out is not None
    from speechft.evaluate import evaluate as run

    cell = run(model, task, manifests, out, recipe=chosen, model_name=name, work_dir=work_dir)
    print(json.dumps(cell) if as_json else "  ".join(f"{key} {value:.2f}" for key, value in cell["metrics"].items()))


@app.command()
def tables(
    recipe: Annotated[Path, typer.Argument(help="Recipe of the table (JSON).")],
    cells: Annotated[list[Path], typer.Argument(help="Cell files; those that are missing show as pending.")],
    out: Out,
    published: Annotated[Path, typer.Option(help="Published numbers.")] = Path("config/published.csv"),
) -> None:
    """Arrange cells beside the published numbers: NAME.csv, .md, .tex and .html in the folder OUT.

    Example: `speechft tables results/recipes/tables/supervised.json results/cells/hubert_base/*/*/*.json --out results/tables`
    """
    from speechft.recipes import TableRecipe, load_recipe
    from speechft.tables import build_table

    build_table(load_recipe(TableRecipe, recipe), cells, published, out, recipe.stem)
    print((out / f"{recipe.stem}.md").read_text(encoding="utf-8"))


@app.command()
def figure(
    recipe: Annotated[Path, typer.Argument(help="Recipe of the table (JSON).")],
    cells: Annotated[list[Path], typer.Argument(help="Cell files.")],
    out: Out,
) -> None:
    """Draw the rows of a table, one panel a metric: OUT (.png) and the same as .svg.

    Example: `speechft figure results/recipes/tables/supervised.json results/cells/hubert_base/*/*/*.json --out supervised.png`
    """
    from speechft.recipes import TableRecipe, load_recipe
    from speechft.tables import build_figure

    build_figure(load_recipe(TableRecipe, recipe), cells, out)


@app.command()
def inspect(checkpoint: Annotated[Path, typer.Argument(help="A checkpoint or an encoder directory.")], as_json: AsJson = False) -> None:
    """Print what a checkpoint holds (family, format, sizes, hash) without running anything in it.

    Example: `speechft inspect hubert_base_ls960.pt`
    """
    from speechft.encoders import inspect_checkpoint

    _print_mapping(inspect_checkpoint(checkpoint), as_json)


@app.command()
def doctor(as_json: AsJson = False) -> None:
    """Check this machine and installation: one line each, with a remedy for each failure.

    Example: `speechft doctor`
    """
    from speechft.doctor import check_all

    findings = check_all()
    if as_json:
        print(json.dumps([finding._asdict() for finding in findings], indent=1))
    else:
        for finding in findings:
            remedy = "" if finding.ok else f"  -> {finding.remedy}"
            print(f"{'ok  ' if finding.ok else 'FAIL'} {finding.name}: {finding.found}{remedy}")
    if not all(finding.ok for finding in findings):
        raise typer.Exit(1)


@app.command()
def schema(out: Out = Path("config/schema.json")) -> None:
    """Write the JSON schema of experiment files, for editors that complete and check YAML.

    Example: `speechft schema --out config/schema.json`
    """
    from speechft.config import experiment_schema
    from speechft.files import write_json

    write_json(out, experiment_schema())


def _print_mapping(values: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(values, indent=1))
        return
    for key, value in values.items():
        print(f"{key}: {value}")


def main() -> NoReturn:
    """Run a verb. Exit status: 0 done, 1 failed (one clear message), 2 wrong usage."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    # On import fairseq asks for a package that only its text-to-speech needs.
    logging.getLogger("fairseq.tasks.text_to_speech").setLevel(logging.WARNING)
    try:
        app()
    except SpeechFTError as error:
        Console(stderr=True, highlight=False, soft_wrap=True).print(f"[bold red]error:[/] {_escape(str(error))}")
        sys.exit(1)
    except KeyboardInterrupt:
        Console(stderr=True).print("stopped; the same command continues where it was")
        sys.exit(1)
    sys.exit(0)


def _escape(text: str) -> str:
    from rich.markup import escape

    return escape(text)


if __name__ == "__main__":
    main()
