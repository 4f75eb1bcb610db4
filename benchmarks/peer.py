"""What the comparisons with s3prl share: its environment, as an option of the command line, and the encoder that both sides run."""

import argparse
from pathlib import Path

HERE = Path(__file__).parent


def add_peer_options(parser: argparse.ArgumentParser) -> None:
    """Options of every comparison."""
    parser.add_argument("--small", action="store_true", help="a tiny model, to see whether this script works")
    parser.add_argument("--s3prl-python", type=Path, default=HERE / ".venv-s3prl/bin/python")


def check_peer(options: argparse.Namespace) -> None:
    """End with a remedy where s3prl's environment is not there."""
    if not options.s3prl_python.exists():
        raise SystemExit(f"{options.s3prl_python}: no such Python. Make it with benchmarks/make_s3prl_env.sh, or give --s3prl-python.")


def hubert_base(folder: Path, *, small: bool) -> Path:
    """An encoder directory at `folder`: HuBERT base with random weights, or a tiny one."""
    from speechft.encoders.directory.random_encoders import base_sizes, random_encoder

    return random_encoder("hubert", folder, **({} if small else base_sizes("hubert")))
