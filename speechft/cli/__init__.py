"""`speechft <verb>`: the command line, and the only thing that the workflow's rules call.

Each verb imports what it needs when it runs, so `--help` and the light verbs start at once. `speechft --help` lists the verbs in the
order in which the modules are imported here.
"""

from __future__ import annotations

import logging
import sys
from typing import NoReturn

from rich.console import Console

from speechft.cli.options import app
from speechft.cli.terminal import log_to_terminal
from speechft.errors import SpeechFTError
from speechft.escapes import terminal_text
from speechft.files import end_on_sigterm
from speechft.refusals import note_refusal

# isort: off
from speechft.cli import (  # noqa: F401 (each adds its verbs)
    corpora,
    encoders,
    training,
    merging,
    evaluation,
    reports,
    analysis,
    planning,
    machine,
)
# isort: on

__all__ = ["app", "main"]


def main() -> NoReturn:
    """Run a verb. Exit status: 0 done, 1 failed (one clear message), 2 wrong usage."""
    end_on_sigterm()
    log_to_terminal()
    # On import fairseq asks for a package that only its text-to-speech needs.
    logging.getLogger("fairseq.tasks.text_to_speech").setLevel(logging.WARNING)
    try:
        app()
    except SpeechFTError as error:
        Console(stderr=True, highlight=False, soft_wrap=True).print(f"[bold red]error:[/] {_escape(str(error))}")
        note_refusal(error, f"error: {error}")
        sys.exit(1)
    except OSError as error:
        if error.filename is None or error.strerror is None:
            raise
        text = f"{error.filename}: {error.strerror}. Check the path, its permissions and the room on the disk."
        Console(stderr=True, highlight=False, soft_wrap=True).print(f"[bold red]error:[/] {_escape(terminal_text(text))}")
        sys.exit(1)
    except KeyboardInterrupt:
        Console(stderr=True).print("stopped; the same command continues where it was")
        sys.exit(1)
    sys.exit(0)


def _escape(text: str) -> str:
    from rich.markup import escape

    return escape(text)
