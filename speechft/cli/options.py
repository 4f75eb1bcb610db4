"""Options and helpers shared by several commands."""

from __future__ import annotations

import inspect
import os
import re
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from speechft.shipped import shipped

HELP = {"help_option_names": ["-h", "--help"]}
ENCODERS, CORPORA, TRAINING, EVALUATION, REPORTS = "Encoders", "Corpora", "Training and merging", "Evaluation", "Reports, planning and runs"
"""Groups of commands in `speechft --help`."""


class _Verbs(TyperGroup):
    """All commands. For Typer an `EOFError` is the end of a user's input: it would end with "Aborted." without naming the file."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except EOFError as error:
            raise ValueError(f"a file is truncated ({error})") from error


app = typer.Typer(
    cls=_Verbs,
    help="Stable fine-tuning, merging and SUPERB evaluation of speech encoders.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings=HELP,
)


@app.callback(
    epilog="Example: `speechft merge hubert_base_ls960.pt my_finetuned.pt --out merged`. Help for a command: `speechft COMMAND --help`"
)
def _of_all_verbs(
    debug: Annotated[bool, typer.Option("--debug", help="Print the traceback of an error, as SPEECHFT_DEBUG=1 does.")] = False,
) -> None:
    """Declare `--debug` for the help; `speechft.cli.main` reads it itself, wherever it appears."""


OfExperiment = Annotated[
    Path,
    typer.Option(
        "--experiment", "-e", help="Experiment file; default: the paper's (config/paper.yaml).", callback=shipped, show_default=False
    ),
]
ExperimentFile = Annotated[Path, typer.Argument(help="Experiment file (YAML).", callback=shipped)]
Recipe = Annotated[Path | None, typer.Option("--recipe", help="Recipe file (JSON); see docs/configuration.md.")]
Out = Annotated[Path, typer.Option("--out", "-o", help="Output path; it appears only when complete.")]
Threads = Annotated[int | None, typer.Option("--threads", min=1, help="CPU threads; default: all available to this process.")]
WorkDir = Annotated[
    Path | None, typer.Option("--work-dir", help="Folder for checkpoints and caches, from which an interrupted job resumes.")
]
Gpus = Annotated[
    int,
    typer.Option(min=0, help="Claim this many free GPUs of this machine; 0: use the visible ones without a claim."),
]
EncoderOption = Annotated[
    list[str] | None,
    typer.Option("--encoder-option", metavar="KEY=VALUE", help="Keyword argument of the encoder's class; repeatable."),
]
Plugins = Annotated[
    list[str] | None,
    typer.Option(
        "--plugin", metavar="FILE.py or MODULE", help="Plug-in that registers names used in this command (docs/extend.md); repeatable."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Family = Annotated[str | None, typer.Option(help="Encoder family; default: detected from the content.")]


def check_sha256(value: str | None) -> str | None:
    """Callback of options for a hash: an empty or cut one would compare with nothing."""
    if value is not None and not re.fullmatch("[0-9a-fA-F]{64}", value):
        raise typer.BadParameter(f"{value!r} is no SHA-256, which has 64 hexadecimal digits")
    return value and value.lower()


def with_plugins(verb: Callable[..., None]) -> Callable[..., None]:
    """Add the option `--plugin` to a command; plug-ins are loaded before it runs. Experiments name their own plug-ins."""

    @wraps(verb)
    def run(*arguments: Any, plugin: list[str] | None = None, **options: Any) -> None:
        from speechft.plugins import load

        for place in plugin or ():
            load(place)
        verb(*arguments, **options)

    signature = inspect.signature(verb, eval_str=True)
    option = inspect.Parameter("plugin", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Plugins)
    parameters = [*signature.parameters.values(), option]
    run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


def words_after(context: typer.Context, count: int) -> list[str]:
    """Return the words after a command and its first `count` words as typed: the parser would drop a lone `--`."""
    typed = sys.argv[sys.argv.index(context.command_path.split()[-1]) + 1 :] if "--" in sys.argv else []
    return typed[count:] if typed else context.args


def use_threads(threads: int | None) -> int:
    """Limit the numerical libraries to `threads` (under torchrun, to a share of them) and return it. Call before torch is imported."""
    from speechft.runtime.gpus import processes_here

    count = max(1, (threads or len(os.sched_getaffinity(0))) // processes_here())
    os.environ["OMP_NUM_THREADS"] = str(count)
    # Threads that spin long while waiting starve other jobs on the same cores; threads that sleep at once halve the speed of small
    # tensors. 10000 iterations are a few microseconds.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    import torch

    torch.set_num_threads(count)
    return count


def use_gpus(count: int, *, processes: bool = False) -> None:
    """Claim `count` GPUs; with `processes`, continue as one process per GPU. Call before torch is imported."""
    from speechft.runtime.gpus import become_torchrun, claim_gpus, under_torchrun

    claim_gpus(count)
    if processes and count > 1 and not under_torchrun():
        become_torchrun(count)
