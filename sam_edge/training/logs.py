"""Logs of each training step: a line of JSON, and curves for TensorBoard.

The lines of JSON are the complete record, which a resumed run continues. TensorBoard is optional.
"""

from __future__ import annotations

import json
from pathlib import Path
from types import TracebackType
from typing import Any

from sam_edge_runtime.system.files import output_error, write_file

LOSSES_FILE, CURVES_FOLDER = "losses.jsonl", "tensorboard"
Record = dict[str, float]


class StepLog:
    """Both logs of a run. Lines that a killed run wrote after its last checkpoint are removed.

    Attributes:
        note: why there are no curves; empty if there are.
    """

    def __init__(self, run: Path, step: int) -> None:
        """Open both logs.

        Args:
            run: the run's folder.
            step: the first step that will be added; lines of this and later steps are removed.

        Raises:
            OutputError: a log cannot be written.
        """
        self._path = run / LOSSES_FILE
        self.note = ""
        try:
            lines = self._path.read_text("utf-8").splitlines() if self._path.exists() else []
            kept = "".join(f"{line}\n" for line in lines if _is_before(line, step))
            write_file(self._path, kept.encode(), overwrite=True)
            self._file = self._path.open("a", encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise output_error(self._path, error if isinstance(error, OSError) else OSError(str(error))) from error
        self._curves = self._open_curves(run / CURVES_FOLDER, step)

    def _open_curves(self, folder: Path, step: int) -> Any:
        try:
            from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415 - slow, and not always installed
        except ImportError:
            self.note = "no curves: tensorboard is not installed (pip install tensorboard); losses.jsonl has all losses"
            return None
        try:
            return SummaryWriter(folder, purge_step=step)
        except OSError as error:
            raise output_error(folder, error) from error

    def add(self, record: Record) -> None:
        """Append a step.

        Raises:
            OutputError: a log cannot be written.
        """
        try:
            self._file.write(json.dumps(record) + "\n")
            self._file.flush()
            if self._curves is not None:
                for name, value in record.items():
                    if name != "step":
                        self._curves.add_scalar(name, value, int(record["step"]))
        except OSError as error:
            raise output_error(self._path, error) from error

    def __enter__(self) -> StepLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        if self._curves is not None:
            self._curves.close()


def _is_before(line: str, step: int) -> bool:
    """Whether a line is the complete record of an earlier step."""
    try:
        return bool(json.loads(line)["step"] < step)
    except (ValueError, KeyError, TypeError):  # an incomplete line
        return False
