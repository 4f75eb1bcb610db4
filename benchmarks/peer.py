"""Common parts of the comparisons with s3prl: the option for its environment, and the encoder of both sides."""

import argparse
from pathlib import Path

HERE = Path(__file__).parent


def add_peer_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of every comparison."""
    parser.add_argument("--small", action="store_true", help="use a tiny model, to test this script")
    parser.add_argument("--s3prl-python", type=Path, default=HERE / ".venv-s3prl/bin/python")


def check_peer(options: argparse.Namespace) -> None:
    """Exit with instructions if s3prl's environment does not exist."""
    if not options.s3prl_python.exists():
        raise SystemExit(f"{options.s3prl_python}: no such Python. Create it with benchmarks/make_s3prl_env.sh, or give --s3prl-python.")


def hubert_base(folder: Path, *, small: bool) -> Path:
    """Write an encoder directory to `folder`: HuBERT base with random weights, or a tiny one."""
    from speechft.encoders.directory.random_encoders import base_sizes, random_encoder

    return random_encoder("hubert", folder, **({} if small else base_sizes("hubert")))
