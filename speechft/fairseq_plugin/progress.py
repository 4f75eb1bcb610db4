"""Progress of a training: a CSV file with one row per update, and a progress line with the remaining time."""

from __future__ import annotations

import contextlib
import csv
import json
import logging
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from tqdm import tqdm

from speechft.files.atomic import atomic_file

LOGGER = logging.getLogger("speechft.finetune")
SECONDS_BETWEEN_LINES = 30.0

Row = dict[str, Any]


class TrainingLog:
    """CSV log of a training. A resumed run first restores it from the checkpoint, so that no row is lost or repeated."""

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        self.path = path
        self.columns = ["update", *columns]
        self._pending: Row | None = None

    def begin(self, text: str = "") -> None:
        """Start the file with its content at a checkpoint, by default with the column names."""
        with atomic_file(self.path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            if text:
                file.write(text)
            else:
                self._rows(file).writeheader()

    def text(self) -> str:
        """Return the content so far."""
        self.flush()
        return self.path.read_bytes().decode()

    def add(self, update: int, values: Mapping[str, Any]) -> None:
        """Start the row of `update`."""
        self.flush()
        self._pending = {"update": update, **values}

    def complete(self, update: int, values: Mapping[str, Any]) -> None:
        """Add validation scores to the last row and write it, before fairseq saves the checkpoint of this update.

        The row is already in the file if an interrupted validation is repeated after a restart.
        """
        if self._pending is not None:
            self._pending.update(values)
            self.flush()
            return
        with self.path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        if rows and rows[-1]["update"] == str(update):
            rows[-1] |= values
            with atomic_file(self.path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
                self._rows(file).writeheader()
                self._rows(file).writerows(rows)

    def flush(self) -> None:
        """Write the pending row, if any."""
        if self._pending is not None:
            with self.path.open("a", newline="", encoding="utf-8") as file:
                self._rows(file).writerow(self._pending)
            self._pending = None

    def close(self) -> None:
        """Write the pending row; errors of a full disk are ignored in favor of the one that ended the training."""
        with contextlib.suppress(OSError):
            self.flush()

    def _rows(self, file: IO[str]) -> csv.DictWriter[str]:
        return csv.DictWriter(file, self.columns, restval="", extrasaction="ignore")


class Progress:
    """Progress bar on a terminal, else a log line every half minute and at every validation."""

    def __init__(self, total_updates: int, title: str) -> None:
        self.total = total_updates
        self.title = title
        self._bar: Any = tqdm(total=total_updates, desc=title, unit="update", dynamic_ncols=True) if sys.stderr.isatty() else None
        self._begun = self._last_line = time.monotonic()
        self._first_update: int | None = None

    def show(self, update: int, facts: Mapping[str, str], *, force: bool = False) -> None:
        """Show that `update` is done, with `facts`."""
        if self._first_update is None:
            self._first_update = update - 1
        if self._bar is not None:
            self._bar.set_postfix(facts, refresh=False)
            self._bar.update(update - self._bar.n)
            return
        now = time.monotonic()
        if force or now - self._last_line >= SECONDS_BETWEEN_LINES or update == self.total:
            self._last_line = now
            per_update = (now - self._begun) / max(1, update - self._first_update)
            shown = " ".join(f"{name} {value}" for name, value in facts.items())
            remaining = time.strftime("%H:%M:%S", time.gmtime(per_update * (self.total - update)))
            LOGGER.info("%s: update %d/%d %s, %.2f updates/s, %s left", self.title, update, self.total, shown, 1 / per_update, remaining)

    def close(self) -> None:
        """Close the progress bar."""
        if self._bar is not None:
            self._bar.close()


class Scalars:
    """Writer of TensorBoard event files with the numbers of the log; without a folder it does nothing.

    After a restart the repeated updates replace those of the interrupted run (TensorBoard's `purge_step`).
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self._writer: Any = None

    def add(self, update: int, values: Mapping[str, Any]) -> None:
        """Write the numbers in `values` for `update`, with dev scores and training values in separate groups."""
        if self.folder is None:
            return
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(self.folder), purge_step=update)
        for name, value in values.items():
            group, _, rest = name.partition("_") if name.startswith("dev_") else ("train", "", name)
            self._writer.add_scalar(f"{group}/{rest}", float(value), update)

    def close(self) -> None:
        """Write pending events."""
        if self._writer is not None:
            self._writer.close()


class FairseqRecords(logging.Handler):
    """Log handler that forwards the numbers in the JSON records of fairseq's progress bar (`log_format: json`, one per update)."""

    def __init__(self, on_update: Callable[[int, Row], None], on_validation: Callable[[int, Row], None], valid_subset: str) -> None:
        super().__init__(logging.INFO)
        self._on_update = on_update
        self._on_validation = on_validation
        self._subset = valid_subset

    def emit(self, record: logging.LogRecord) -> None:
        """Handle a record; fairseq names the logger after the kind of record."""
        if record.name == "train_inner":
            values = _numbers(json.loads(record.getMessage()))
            self._on_update(int(values["num_updates"]), values)
        elif record.name == self._subset:
            values = {key.removeprefix(f"{self._subset}_"): value for key, value in _numbers(json.loads(record.getMessage())).items()}
            self._on_validation(int(values["num_updates"]), values)


def _numbers(values: Mapping[str, Any]) -> Row:
    numbers = {}
    for key, value in values.items():
        try:
            numbers[key] = float(value)
        except (TypeError, ValueError):
            continue
    return numbers
