"""TensorBoard's view of a training: the numbers of its CSV, as they come."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any


class Scalars:
    """Writes scalars into event files; without a folder it does nothing.

    After a restart the repeated updates replace those of the interrupted run (TensorBoard's `purge_step`).
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self._writer: Any = None

    def add(self, update: int, values: Mapping[str, Any]) -> None:
        """Write the numbers among `values` as those of `update`; dev scores and what is followed in training stand apart."""
        if self.folder is None:
            return
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(self.folder), purge_step=update)
        for name, value in values.items():
            group, _, rest = name.partition("_") if name.startswith("dev_") else ("train", "", name)
            self._writer.add_scalar(f"{group}/{rest}", float(value), update)

    def close(self) -> None:
        """Write what is still in memory."""
        if self._writer is not None:
            self._writer.close()
