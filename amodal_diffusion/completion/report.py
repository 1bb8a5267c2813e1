"""What the `complete` command prints at its end: what was done, what to mind, and which file to open first."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from amodal_diffusion.completion.layout import SHEET, SUMMARY


@contextmanager
def gathered_warnings() -> Iterator[list[str]]:
    """Gather the package's warnings, which are printed as they come, to repeat them below the progress bars."""
    warnings: list[str] = []

    class Gatherer(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            warnings.append(" ".join(record.getMessage().split()))

    handler = Gatherer(logging.WARNING)
    logger = logging.getLogger("amodal_diffusion")
    logger.addHandler(handler)
    try:
        yield warnings
    finally:
        logger.removeHandler(handler)


def describe_result(folder: Path, *, seconds: float, warnings: list[str]) -> str:
    """A few lines on a finished result; the last one is the folder.

    Args:
        folder: result folder.
        seconds: that the command took.
        warnings: notices that were given.
    """
    summary = json.loads((folder / SUMMARY).read_text(encoding="utf-8"))
    records = list(summary["objects"].values())
    lines = [
        f"{_counted(len(records), 'object')}, {_counted(summary['clip']['frames'], 'frame')}, {seconds:.1f} s",
        _describe_hidden(records, painted=summary["recomposition"] is not None),
        *(f"warning: {text}" for text in warnings),
        f"open first: {folder / SHEET}",
    ]
    return "\n".join([*lines, str(folder)])


def _describe_hidden(records: list[dict[str, Any]], *, painted: bool) -> str:
    """How much of the objects is hidden, and where its colors are from."""
    visible, whole = (sum(sum(record[key]) for record in records) for key in ("visible_area", "amodal_area"))
    rim = sum(sum(record.get("rim_area", ())) for record in records)
    hidden = whole - visible + rim
    if not hidden:
        return "hidden: no pixel"
    text = f"hidden: {hidden:,} pixels, {hidden / whole:.0%} of the whole objects"
    if not painted:
        return text
    propagated = sum(record.get("hidden_pixels", {}).get("propagated", 0.0) for record in records)
    return f"{text}; colors: {1 - propagated / hidden:.0%} predicted, {propagated / hidden:.0%} taken from other frames"


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
