"""Commands for encoders: fetch, import, fbank, export, store, inspect, check-encoder."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from speechft.cli.options import (
    ENCODERS,
    AsJson,
    EncoderOption,
    Family,
    Gpus,
    Out,
    Recipe,
    Threads,
    app,
    check_sha256,
    use_gpus,
    use_threads,
    with_plugins,
)
from speechft.cli.terminal import say
from speechft.errors import ConfigError
from speechft.recipes.modules import parse_options


@app.command(rich_help_panel=ENCODERS)
def fetch(
    name: Annotated[str | None, typer.Argument(help="Name in config/encoders.tsv or config/lexicons.tsv, such as hubert_base.")] = None,
    url: Annotated[str | None, typer.Option(help="URL of another file, or of another version of NAME.")] = None,
    sha256: Annotated[
        str | None,
        typer.Option(help="Expected SHA-256; default: the known one of NAME, otherwise that of the first download.", callback=check_sha256),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Output file; default for a NAME: its file name in checkpoints/ or lexicons/.")
    ] = None,
) -> None:
    """Download a checkpoint or a lexicon, resume an interrupted download, or check an existing file.

    Example: `speechft fetch hubert_base --out checkpoints/hubert_base_ls960.pt`
    """
    from speechft.downloads.checkpoints import public_checkpoints
    from speechft.downloads.fetching import fetch as run
    from speechft.downloads.lexicons import public_lexicons
    from speechft.errors import unknown_name

    if name is None:
        if url is None or out is None:
            raise typer.BadParameter("give the NAME of a file of config/encoders.tsv or config/lexicons.tsv, or --url and --out")
        run(url, out, sha256=sha256)
        return
    files = {**public_checkpoints(), **public_lexicons()}
    if name not in files:
        raise ConfigError(unknown_name("public file", name, files))
    known = files[name]
    logging.info("%s: licence %s, see %s", known.name, known.licence, known.source)
    # --sha256 means another version, whose git hash and size are unknown.
    git_sha1, size = (None, None) if sha256 else (known.git_sha1, known.bytes)
    run(url or known.url, out or known.path, sha256=sha256 or known.sha256, git_sha1=git_sha1, bytes=size, own=known.own)


@app.command("import", rich_help_panel=ENCODERS)
def import_(
    checkpoint: Annotated[
        Path, typer.Argument(help="fairseq or s3prl checkpoint, transformers directory, LoRA adapter, org/name[@revision] on the Hub.")
    ],
    out: Out,
    family: Family = None,
    format: Annotated[str | None, typer.Option(help="Layout of the file; default: detected from the content.")] = None,
    config: Annotated[Path | None, typer.Option(help="JSON file with model settings that the checkpoint lacks.")] = None,
    sha256: Annotated[
        str | None, typer.Option(help="Expected SHA-256 of the file; default: the one in CHECKPOINT.sha256.", callback=check_sha256)
    ] = None,
    base: Annotated[
        Path | None,
        typer.Option(
            "--like", "--base", help="Model that CHECKPOINT was fine-tuned from: configuration of a bare state dict, base of an adapter."
        ),
    ] = None,
) -> None:
    """Convert a published or fine-tuned checkpoint to an encoder directory; a head is dropped.

    Example: `speechft import hubert_base_ls960.pt --out models/hubert_base`

    Example: `speechft import facebook/hubert-base-ls960 --out models/hubert_base`
    """
    from speechft.downloads.checkpoints import OWN
    from speechft.downloads.fetching import recorded_hash
    from speechft.encoders import import_checkpoint
    from speechft.errors import CheckpointError
    from speechft.files.hashes import sha256_file
    from speechft.files.structured import read_json

    settings = read_json(config) if config else None
    if settings is not None and not isinstance(settings, dict):
        raise ConfigError(f"{config}: model settings must be a mapping of keys, found {type(settings).__name__}.")
    if sha256 and not checkpoint.is_file():
        raise CheckpointError(f"{checkpoint}: is not a file, so --sha256 has nothing to compare. Name a file, or omit the option.")
    expected = sha256 or recorded_hash(checkpoint)
    if expected and checkpoint.is_file() and (actual := sha256_file(checkpoint)) != expected:
        raise CheckpointError(f"{checkpoint}: has SHA-256 {actual}, expected {expected}; fetch it again if it is damaged, or {OWN}.")
    import_checkpoint(checkpoint, out, family=family, format=format, config=settings, like=base)


@app.command(rich_help_panel=ENCODERS)
def fbank(
    out: Out,
    recipe: Recipe = None,
    mel_bins: Annotated[int | None, typer.Option(help="Log-mel energies per frame; default: 80, or the recipe's.")] = None,
    deltas: Annotated[int | None, typer.Option(help="Highest order of time derivatives; default: 2, or the recipe's.")] = None,
    normalize: Annotated[
        bool | None,
        typer.Option("--normalize/--no-normalize", help="Zero mean and unit deviation over each utterance; default: yes, or the recipe's."),
    ] = None,
) -> None:
    """Write an encoder directory of log-mel filterbanks, SUPERB's FBANK baseline, without learned weights.

    Example: `speechft fbank --out models/fbank`
    """
    from speechft.encoders import fbank_encoder
    from speechft.recipes.pretraining import FbankRecipe
    from speechft.recipes.values import load_recipe, validate

    chosen = load_recipe(FbankRecipe, recipe) if recipe else FbankRecipe()
    given = {"mel_bins": mel_bins, "deltas": deltas, "normalize": normalize}
    changes = {key: value for key, value in given.items() if value is not None}
    fbank_encoder(out, validate(FbankRecipe, {**chosen.model_dump(), **changes}, "speechft fbank"))


@app.command(rich_help_panel=ENCODERS)
def export(
    model: Annotated[Path, typer.Argument(help="Encoder directory.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Output path; default: MODEL_FORMAT.pt next to MODEL (for transformers a directory).")
    ] = None,
    format: Annotated[str, typer.Option(help="Layout: fairseq, s3prl or transformers.")] = "fairseq",
    to_hub: Annotated[
        str | None, typer.Option(metavar="ORG/NAME", help="Upload to this Hugging Face Hub repository, with a model card.")
    ] = None,
    private: Annotated[bool, typer.Option(help="With --to-hub: create a private repository.")] = False,
) -> None:
    """Convert an encoder directory to another toolkit's layout, or upload it to the Hugging Face Hub in transformers' layout.

    Example: `speechft export models/merged --format fairseq --out merged.pt`

    Example: `speechft export models/merged --to-hub my_group/hubert-merged`
    """
    from speechft.encoders import export_checkpoint

    if to_hub is not None:
        from speechft.encoders.checkpoints.exporting import export_to_hub

        if out is not None or format not in ("fairseq", "transformers"):
            raise typer.BadParameter("--to-hub always uploads transformers' layout; omit --out and --format")
        say(export_to_hub(model, to_hub, private=private))
        return
    if out is None:
        place = model.resolve()
        out = place.parent / f"{place.name}_{format}{'' if format == 'transformers' else '.pt'}"
    export_checkpoint(model, out, format=format)
    say(out)


@app.command(rich_help_panel=ENCODERS)
def store(
    model: Annotated[Path, typer.Argument(help="Encoder directory.")],
    out: Out,
    dtype: Annotated[str, typer.Option(help="Storage dtype: fp16, bf16 or fp32.")] = "fp16",
) -> None:
    """Write a copy of an encoder directory in half precision, to save space; it is loaded as float32.

    Example: `speechft store models/my_hubert --dtype fp16 --out my_hubert_fp16`
    """
    from speechft.encoders import store_encoder

    store_encoder(model, out, dtype)


@app.command(rich_help_panel=ENCODERS)
def inspect(checkpoint: Annotated[Path, typer.Argument(help="A checkpoint or an encoder directory.")], as_json: AsJson = False) -> None:
    """Print the content of a checkpoint (family, format, sizes, hash) without running its code.

    Example: `speechft inspect hubert_base_ls960.pt`
    """
    from speechft.encoders import inspect_checkpoint

    facts = inspect_checkpoint(checkpoint)
    if as_json:
        print(json.dumps(facts, indent=1))
    else:
        say("\n".join(f"{key}: {value}" for key, value in facts.items()))


@app.command("check-encoder", rich_help_panel=ENCODERS)
@with_plugins
def check_encoder(
    model: Annotated[
        str, typer.Argument(help="path/to/file.py:MyEncoder, or my_package.my_module:MyEncoder on PYTHONPATH; its code is run.")
    ],
    encoder_option: EncoderOption = None,
    threads: Threads = None,
    gpus: Gpus = 0,
    as_json: AsJson = False,
) -> None:
    """Test a frozen model of your own on noise: shapes, rate, lengths, batches, time. The exit status is 1 if it cannot be evaluated.

    Example: `speechft check-encoder my_encoder.py:MyEncoder --encoder-option layers=12`
    """
    options = parse_options(encoder_option or ())
    use_gpus(gpus)
    use_threads(threads)
    from speechft.encoders import check_encoder as run

    checks = []
    for check in run(model, options):
        checks.append(check)
        if not as_json:
            say(f"{check.name}: {check.text}")
    if as_json:
        print(json.dumps({"usable": not checks[-1].problem, "checks": [asdict(check) for check in checks]}, indent=1))
    if checks[-1].problem:
        raise typer.Exit(1)
