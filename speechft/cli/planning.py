"""Commands to use before an experiment runs: rehearse, plan, calibrate."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from speechft.cli.options import REPORTS, AsJson, ExperimentFile, OfExperiment, Threads, app, use_threads
from speechft.cli.terminal import console, rich_table, say
from speechft.files.escapes import terminal_text
from speechft.shipped import PAPER


@app.command(rich_help_panel=REPORTS)
def rehearse(
    experiment: ExperimentFile,
    out: Annotated[Path, typer.Option("--out", "-o", help="Output folder: a new one, or that of an earlier rehearsal.")],
    corpora: Annotated[
        Literal["mine", "stand-ins"],
        typer.Option(help="mine: the first utterances of each corpus. stand-ins: synthetic speech in the layout of each published corpus."),
    ] = "mine",
    encoders: Annotated[
        Literal["mine", "tiny"], typer.Option(help="mine: those of the experiment. tiny: small random ones in the published formats.")
    ] = "mine",
    gpus: Annotated[
        bool | None, typer.Option(help="Request GPUs as the experiment does. Default: if there is a GPU, or Slurm.", show_default=False)
    ] = None,
) -> None:
    """Write a small copy of an experiment that runs all of its rules, models and cells within the hour.

    Names, corpora, encoders, methods, tables and curves stay the same. Only sizes differ (docs/rehearsal.md): utterances, updates,
    steps, learning rates, head widths, resources. Run it the way you will run the experiment itself.

    Example: `speechft rehearse config/paper.yaml --out rehearsal && snakemake --profile slurm --configfile rehearsal/experiment.yaml`

    Example: `speechft rehearse config/paper.yaml --out rehearsal --corpora stand-ins --encoders tiny`
    """
    from speechft.rehearsal import rehearse as derive
    from speechft.runs.warm import VARIABLE

    made = derive(experiment, out, corpora=corpora, encoders=encoders, gpus=gpus)
    for remark in made.remarks:
        say(f"remark: {remark}")
    file = shlex.quote(str(made.experiment))
    say(f"Wrote {made.experiment}. Run it here or on a cluster, then see `speechft jobs`:")
    say(f"  {VARIABLE}=1 snakemake --cores all --configfile {file}")
    say(f"  snakemake --profile slurm --configfile {file} -- all")


@app.command(rich_help_panel=REPORTS)
def plan(
    targets: Annotated[
        list[str] | None,
        typer.Argument(help="Tables, curves, cells (encoder/finetuning/method/task), models, or files of the workflow; default: all."),
    ] = None,
    experiment: OfExperiment = PAPER,
    throughput: Annotated[
        Path | None, typer.Option(help="Speeds measured by `speechft calibrate`; default: config/throughput.json.")
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="Part of a device name in that file, or cpu, or cuda; default: a GPU if one was measured.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Estimate the cost of an experiment, a table or a cell: jobs, hours of audio processed, hours, disk.

    Nothing is computed, and neither corpora nor encoders need to exist: sizes come from manifests or from publications, as the output
    shows.

    Example: `speechft plan --experiment config/paper.yaml`

    Example: `speechft plan supervised hubert_base/none/pretrained/asr`
    """
    from speechft.planning.plan import plan_experiment
    from speechft.planning.speeds import load_throughput

    planned = plan_experiment(experiment, load_throughput(throughput), targets or (), device=device)
    if as_json:
        print(json.dumps(planned.to_json(), indent=1))
        return
    from speechft.planning.report import report

    screen = console(400)
    for part in report(planned, str(experiment)):
        if isinstance(part, str):
            screen.print(terminal_text(part), soft_wrap=not sys.stdout.isatty())
        else:
            screen.print(rich_table(*part))


@app.command(rich_help_panel=REPORTS)
def calibrate(
    device: Annotated[str | None, typer.Option(help="cpu or cuda; default: a GPU if there is one.")] = None,
    encoder: Annotated[
        list[str] | None,
        typer.Option(help="hubert, wav2vec2, wavlm or decoar2 (base size, random weights), or an encoder directory; repeatable."),
    ] = None,
    seconds: Annotated[float, typer.Option(min=0, help="Approximate duration.")] = 100.0,
    out: Annotated[Path, typer.Option("--out", "-o", help="Output file; entries of other devices are kept.")] = Path(
        "config/throughput.json"
    ),
    threads: Threads = None,
) -> None:
    """Measure the speed of this machine for `speechft plan`: encoder passes and heads. At most two minutes on a GPU.

    Nothing is downloaded, because weights are random. On a cluster run it on a compute node:
    `srun --gres=gpu:1 speechft calibrate --device cuda`.

    Example: `speechft calibrate --device cuda --out config/throughput.json`
    """
    use_threads(threads)
    from speechft.files.output_kinds import SPEEDS
    from speechft.files.outputs import check_file
    from speechft.planning.calibration import DEFAULT_ENCODERS
    from speechft.planning.calibration import calibrate as run
    from speechft.planning.speeds import load_throughput, save_device

    check_file(out, SPEEDS, [Path(entry) for entry in encoder or ()])
    if out.is_file() and out.stat().st_size:
        load_throughput(out)  # fail early if the file is damaged
    measured = run(device, encoder or DEFAULT_ENCODERS, seconds=seconds)
    save_device(out, measured)
    say(f"{measured.label} ({measured.clock})")
    for name, speed in measured.encoders.items():
        forward, update = (
            ", ".join(f"{value:.3g} in {precision}" for precision, value in speeds.items()) for speeds in (speed.forward, speed.update)
        )
        say(f"{name}, hours of audio per hour: forward {forward}; forward and backward {update}")
    for task, hours in measured.heads.items():
        say(f"{task} head: {hours:.3g} h of audio per hour with one learning rate")
    for task, steps in measured.pooled_steps.items():
        say(f"{task} head: {steps:.3g} steps per second with all learning rates")
    say(f"QbE search: {measured.search_frames / 1e6:.3g} million frame pairs per second")
    say(out)
