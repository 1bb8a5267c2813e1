"""The means of a run as tables, for the terminal, the Markdown summary and the web page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

NOTHING = "-"


@dataclass(frozen=True)
class Cell:
    """A mean with its error, formatted.

    Attributes:
        value: the mean; NaN if there is none.
        error: standard error; NaN if there is none.
        interval: 95 % confidence interval; NaN if there is none.
        digits: number of decimals.
        tracks: number of tracks with a frame that counts, where it is less than all of them, and of all; else None.
    """

    value: float = math.nan
    error: float = math.nan
    interval: tuple[float, float] = (math.nan, math.nan)
    digits: int = 3
    tracks: tuple[int, int] | None = None

    @property
    def mean(self) -> str:
        """The mean alone."""
        return NOTHING if math.isnan(self.value) else f"{self.value:.{self.digits}f}"

    @property
    def range(self) -> str:
        """The interval; empty if there is none."""
        low, high = self.interval
        return "" if math.isnan(low) else f"[{low:.{self.digits}f}, {high:.{self.digits}f}]"

    @property
    def brief(self) -> str:
        """The mean and its standard error, and how many tracks it is over."""
        return f"{self._with_error} {self.over}".rstrip()

    @property
    def full(self) -> str:
        """The mean, its standard error and its interval, and how many tracks they are over."""
        return " ".join(part for part in (self._with_error, self.range, self.over) if part)

    @property
    def over(self) -> str:
        """How many of all tracks the mean is over; empty if over all, or if there is none."""
        return "" if self.tracks is None or math.isnan(self.value) else f"({self.tracks[0]}/{self.tracks[1]})"

    @property
    def _with_error(self) -> str:
        return self.mean if math.isnan(self.error) else f"{self.mean} ± {self.error:.{self.digits}f}"


@dataclass(frozen=True)
class Table:
    """Rows of means.

    Attributes:
        title: heading.
        columns: names of the columns.
        rows: name and cells of each row.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Cell, ...]], ...]


@dataclass(frozen=True)
class _Column:
    label: str
    path: tuple[str, ...]
    digits: int = 3
    least: float = 0.0
    largest: float = math.inf

    def cell(self, record: Mapping[str, Any], tracks: int) -> Cell:
        """The mean at the column's path: a record of `pooled_record`, or a number alone.

        Args:
            record: of a method.
            tracks: number of all tracks that were scored.
        """
        *groups, name = self.path
        for group in groups:
            record = record.get(group, {})
        value = record.get(name, math.nan)
        error, interval = (
            record.get(f"{name}_standard_error", math.nan),
            record.get(f"{name}_interval", (math.nan,) * 2),
        )
        # In this order, min and max keep NaN.
        low, high = (min(max(end, self.least), self.largest) for end in interval)
        counted = record.get(f"{name}_tracks", tracks)
        return Cell(value, error, (low, high), self.digits, (counted, tracks) if counted < tracks else None)


_MASKS = (
    _Column("mIoU", ("strict", "miou"), largest=1.0),
    _Column("mIoU_occ", ("strict", "miou_occ"), largest=1.0),
    _Column("fully hidden", ("strict", "miou_hidden"), largest=1.0),
    _Column("invented", ("strict", "invented")),
    _Column("boundary F", ("boundary_f", "mean"), largest=1.0),
    _Column("instability", ("instability", "mean"), largest=1.0),
)
_RELEASED = (
    _Column("mIoU", ("released", "miou"), largest=1.0),
    _Column("mIoU_occ", ("released", "miou_occ"), largest=1.0),
    _Column("fully hidden", ("released", "miou_hidden"), largest=1.0),
)
_BOXES = (
    _Column("box IoU", ("boxes", "miou"), largest=1.0),
    _Column("above 0.25", ("boxes", "above_0.25"), largest=1.0),
    _Column("above 0.5", ("boxes", "above_0.5"), largest=1.0),
    _Column("above 0.75", ("boxes", "above_0.75"), largest=1.0),
)
_CALIBRATION = (
    _Column("expected calibration error", ("calibration", "expected_calibration_error"), 4),
    _Column("where predicted", ("calibration", "expected_calibration_error_where_predicted"), 4),
)
_CONTENT = (
    _Column("PSNR, hidden, dB", ("content", "psnr", "mean"), 2, least=-math.inf),
    _Column("PSNR, object, dB", ("content", "psnr_object", "mean"), 2, least=-math.inf),
    _Column("SSIM, hidden", ("content", "ssim", "mean"), least=-1.0, largest=1.0),
    _Column("SSIM, object", ("content", "ssim_object", "mean"), least=-1.0, largest=1.0),
    _Column("flicker, gray levels", ("content", "flicker", "mean"), 2),
    _Column("LPIPS", ("content", "lpips", "mean")),
    _Column("Frechet video distance", ("frechet_video_distance",), 2),
)


def tables(summary: Mapping[str, Any]) -> list[Table]:
    """Lay out the means of a run as tables; empty tables are left out, and intervals end where a measure does.

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
    plain, count = list(methods.items()), summary["tracks"]["scored"]
    laid_out = [
        _table("Masks, protocol strict", _MASKS, rows, count),
        _table("Masks, protocol released", _RELEASED, rows, count),
        _table("Boxes", _BOXES, rows, count),
        _table("Calibration of the samples", _CALIBRATION, plain, count),
        _table("Painted content, the true masks given", _CONTENT, plain, count),
    ]
    return [table for table in laid_out if table.rows and table.columns]


def _table(title: str, columns: Sequence[_Column], rows: Sequence[tuple[str, Mapping[str, Any]]], tracks: int) -> Table:
    """A table without its empty columns and rows."""
    cells = {name: [column.cell(record, tracks) for column in columns] for name, record in rows}
    kept = [
        number for number in range(len(columns)) if any(not math.isnan(line[number].value) for line in cells.values())
    ]
    filled = {name: line for name, line in cells.items() if any(not math.isnan(cell.value) for cell in line)}
    return Table(
        title,
        tuple(columns[number].label for number in kept),
        tuple((name, tuple(line[number] for number in kept)) for name, line in filled.items()),
    )


MEASURES: dict[str, str] = {
    "strict": "mIoU over all frames that have the object, mIoU_occ (the hidden part alone) over all frames that hide "
    "something; a miss counts as 0.",
    "released": "as published figures were computed: hidden parts are eroded by 5 x 5 pixels first, and frames whose "
    "mIoU_occ is then 0 are dropped, so that a complete miss vanishes.",
    "fully hidden": "mIoU of frames that show nothing of the object.",
    "invented": "area predicted in frames that hide nothing, as a share of the visible area there.",
    "boundary F": "how well the outlines follow each other, within 0.8 % of the frame's diagonal.",
    "instability": "change of the predicted shape from frame to frame beyond that of the true shape; less is better.",
    "boxes": "IoU of the boxes around the masks, and the share of frames above 0.25, 0.5 and 0.75.",
    "samples": "of k predictions, the mean over all of them, and the best: the one of a track with the largest mIoU, "
    "chosen with the truth. Each has its own seed, from the track's name and the sample's number.",
    "calibration": "whether of the pixels that a share p of the samples has, a share p is the object's.",
    "±, [ ]": "standard error and 95 % confidence interval (Student's t), cut at the measure's own bounds; tracks, not "
    "frames, are independent draws.",
    "(m/n)": "the mean is over m of n tracks; the others have no frame that counts.",
}
"""Explanations of the measures, by name."""


NAMES: dict[str, str] = {"miou": "mIoU", "miou_occ": "mIoU_occ", "box_iou": "box IoU", "psnr": "PSNR, hidden, dB,"}
"""Names of the main measures in texts."""


def format_tables(summary: Mapping[str, Any]) -> str:
    """All tables for the terminal, each mean with its standard error over tracks.

    Args:
        summary: as `RunSummary.record` gives it.
    """
    return "\n\n".join(f"{table.title}\n{_lines(table, full=False)}" for table in tables(summary))


LEVEL_NAMES = {
    "fully_hidden": "mIoU of fully hidden frames",
    "open_miou": "mIoU of tracks that hide nothing",
    "open_invented": "area invented in tracks that hide nothing",
}


def format_verdicts(verdicts: Sequence[Mapping[str, Any]]) -> str:
    """Say of each threshold whether it is reached and by how much, one line each.

    Args:
        verdicts: ``thresholds`` of a summary.
    """
    return "\n".join(f"{'pass' if verdict['passed'] else 'FAIL'}  {describe_verdict(verdict)}" for verdict in verdicts)


def describe_verdict(verdict: Mapping[str, Any]) -> str:
    """Name the gain over a baseline, or the value, and the threshold that it is compared with."""
    measured = verdict["gain"] if "gain" in verdict else verdict["value"]
    error = measured["standard_error"]
    spread = "" if math.isnan(error) else f" ± {error:.3f}"
    if "gain" in verdict:
        figures = f"{measured['value']:+.3f}{spread} over {verdict['baseline']}, threshold {verdict['margin']:+.2f}"
        return f"{verdict['method']}: {NAMES[verdict['measure']]} {figures}"
    limit = f"{'at least' if verdict['at_least'] else 'at most'} {verdict['limit']:.2f}"
    return f"{verdict['method']}: {LEVEL_NAMES[verdict['measure']]} {measured['value']:.3f}{spread}, {limit} wanted"


def scored(summary: Mapping[str, Any]) -> str:
    """Say how many tracks and frames were scored, and how many tracks were left out."""
    tracks = summary["tracks"]
    text = f"{tracks['scored']} track(s) with {tracks['frames']} frames scored"
    return f"{text}, {len(tracks['skipped'])} left out" if tracks["skipped"] else f"{text}, none left out"


def markdown(summary: Mapping[str, Any]) -> str:
    """Lay out the whole summary as Markdown.

    Args:
        summary: as `RunSummary.record` gives it, with ``benchmark``, ``command`` and ``settings``.
    """
    parts = [f"# {summary['benchmark']}", f"{scored(summary)}."]
    parts += [f"## {table.title}\n\n{_lines(table, full=True)}" for table in tables(summary)]
    if summary["thresholds"]:
        parts.append(
            "## Thresholds\n\n" + "\n".join(f"- {line}" for line in format_verdicts(summary["thresholds"]).splitlines())
        )
    if summary["tracks"]["skipped"]:
        lines = [f"- `{identity}`: {reason}" for identity, reason in summary["tracks"]["skipped"].items()]
        parts.append("## Left out\n\n" + "\n".join(lines))
    parts.append("## Measures\n\n" + "\n".join(f"- **{name}**: {text}" for name, text in MEASURES.items()))
    settings = "\n".join(f"- {name}: {said(value)}" for name, value in summary["settings"].items())
    parts.append(f"## Settings\n\n{settings}\n\n```bash\n{summary['command']}\n```")
    return "\n\n".join(parts) + "\n"


def said(value: object) -> str:
    """The value of a setting in words."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {said(entry)}" for key, entry in value.items()) or "none"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(said, value)) or "none"
    return "none" if value in (None, "") else str(value)


def _lines(table: Table, *, full: bool) -> str:
    rows = [
        ["method", *table.columns],
        *([name, *(cell.full if full else cell.brief for cell in cells)] for name, cells in table.rows),
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [rows[0], ["-" * width for width in widths], *rows[1:]]
    return "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines
    )
