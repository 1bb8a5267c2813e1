"""The means of a run as tables, the same ones for the terminal, the Markdown summary and the web page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

NOTHING = "-"


@dataclass(frozen=True)
class Cell:
    """A mean as it is shown.

    Attributes:
        value: NaN where there is none.
        error: standard error; NaN where there is none.
        interval: 95 % confidence interval; NaN where there is none.
        digits: behind the point.
    """

    value: float = math.nan
    error: float = math.nan
    interval: tuple[float, float] = (math.nan, math.nan)
    digits: int = 3

    @property
    def mean(self) -> str:
        """The value."""
        return NOTHING if math.isnan(self.value) else f"{self.value:.{self.digits}f}"

    @property
    def range(self) -> str:
        """The interval; empty where there is none."""
        low, high = self.interval
        return "" if math.isnan(low) else f"[{low:.{self.digits}f}, {high:.{self.digits}f}]"

    @property
    def brief(self) -> str:
        """The value and its standard error."""
        return self.mean if math.isnan(self.error) else f"{self.mean} ± {self.error:.{self.digits}f}"

    @property
    def full(self) -> str:
        """The value, its standard error and its interval."""
        return f"{self.brief} {self.range}".rstrip()


@dataclass(frozen=True)
class Table:
    """Rows of means.

    Attributes:
        title: what it shows.
        columns: over the cells.
        rows: a label and its cells.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Cell, ...]], ...]


@dataclass(frozen=True)
class _Column:
    label: str
    path: tuple[str, ...]
    digits: int = 3

    def cell(self, record: Mapping[str, Any]) -> Cell:
        """The mean where the path leads, `pooled_record`'s or a number alone."""
        *groups, name = self.path
        for group in groups:
            record = record.get(group, {})
        value = record.get(name, math.nan)
        error, interval = (
            record.get(f"{name}_standard_error", math.nan),
            record.get(f"{name}_interval", (math.nan,) * 2),
        )
        return Cell(value, error, (interval[0], interval[1]), self.digits)


_MASKS = (
    _Column("mIoU", ("strict", "miou")),
    _Column("mIoU_occ", ("strict", "miou_occ")),
    _Column("fully hidden", ("strict", "miou_hidden")),
    _Column("invented", ("strict", "invented")),
    _Column("boundary F", ("boundary_f", "mean")),
    _Column("instability", ("instability", "mean")),
)
_RELEASED = (
    _Column("mIoU", ("released", "miou")),
    _Column("mIoU_occ", ("released", "miou_occ")),
    _Column("fully hidden", ("released", "miou_hidden")),
)
_BOXES = (
    _Column("box IoU", ("boxes", "miou")),
    _Column("above 0.25", ("boxes", "above_0.25")),
    _Column("above 0.5", ("boxes", "above_0.5")),
    _Column("above 0.75", ("boxes", "above_0.75")),
)
_CALIBRATION = (
    _Column("expected calibration error", ("calibration", "expected_calibration_error"), 4),
    _Column("where predicted", ("calibration", "expected_calibration_error_where_predicted"), 4),
)
_CONTENT = (
    _Column("PSNR, hidden, dB", ("content", "psnr", "mean"), 2),
    _Column("PSNR, object, dB", ("content", "psnr_object", "mean"), 2),
    _Column("SSIM, hidden", ("content", "ssim", "mean")),
    _Column("SSIM, object", ("content", "ssim_object", "mean")),
    _Column("flicker, grey levels", ("content", "flicker", "mean"), 2),
    _Column("LPIPS", ("content", "lpips", "mean")),
    _Column("Frechet video distance", ("frechet_video_distance",), 2),
)


def tables(summary: Mapping[str, Any]) -> list[Table]:
    """Lay the means of a run out; a table in which no method has anything is left out.

    Args:
        summary: as `RunSummary.record` gives it.
    """
    methods: Mapping[str, Mapping[str, Any]] = summary["methods"]
    rows: list[tuple[str, Mapping[str, Any]]] = []
    for name, record in methods.items():
        count = record["samples"]
        rows.append((name if count == 1 else f"{name}, mean of {count}", record))
        if count > 1:
            rows.append((f"{name}, best of {count}", record["best_of_samples"]))
    plain = list(methods.items())
    laid_out = [
        _table("Masks, protocol strict", _MASKS, rows),
        _table("Masks, protocol released", _RELEASED, rows),
        _table("Boxes", _BOXES, rows),
        _table("Calibration of the samples", _CALIBRATION, plain),
        _table("Painted content, the true masks given", _CONTENT, plain),
    ]
    return [table for table in laid_out if table.rows and table.columns]


def _table(title: str, columns: Sequence[_Column], rows: Sequence[tuple[str, Mapping[str, Any]]]) -> Table:
    """A table without the columns and rows in which there is nothing."""
    cells = {name: [column.cell(record) for column in columns] for name, record in rows}
    kept = [
        number for number in range(len(columns)) if any(not math.isnan(line[number].value) for line in cells.values())
    ]
    filled = {name: line for name, line in cells.items() if any(not math.isnan(cell.value) for cell in line)}
    return Table(
        title,
        tuple(columns[number].label for number in kept),
        tuple((name, tuple(line[number] for number in kept)) for name, line in filled.items()),
    )
