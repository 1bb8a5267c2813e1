"""The report of a run: a table to read, verdicts, and results.json."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from amodal_diffusion.evaluation.bars import Verdict
from amodal_diffusion.evaluation.scoring import MEASURES, Measure, MethodScore
from amodal_diffusion.evaluation.statistics import PooledMean

_COLUMNS: tuple[tuple[str, Measure], ...] = (
    ("mIoU", "miou"),
    ("mIoU_occ", "miou_occ"),
    ("fully hidden", "fully_hidden"),
    ("invented", "invented"),
    ("released mIoU", "released_miou"),
    ("released mIoU_occ", "released_miou_occ"),
)


def format_table(scores: Sequence[MethodScore]) -> str:
    """Lay the means out as a Markdown table, a row a method, each with its standard error over tracks.

    Args:
        scores: methods scored on the same tracks; the column of painted content is there if one has it.
    """
    columns = list(_COLUMNS)
    if any(score.mean("psnr").tracks for score in scores):
        columns.append(("hidden PSNR, dB", "psnr"))
    header = ["method", *(title for title, _ in columns), "s/clip"]
    rows = [
        [score.name, *(_cell(score.mean(measure), measure) for _, measure in columns), _seconds(score)]
        for score in scores
    ]
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
    lines = [header, ["-" * width for width in widths], *rows]
    return "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |"
        for line in lines
    )


def format_verdicts(verdicts: Sequence[Verdict]) -> str:
    """Say of each bar whether it is cleared and by how much, a line each."""
    return "\n".join(_verdict_line(verdict) for verdict in verdicts)


def write_results(
    path: Path, scores: Sequence[MethodScore], *, benchmark: str, verdicts: Sequence[Verdict]
) -> None:
    """Write all means and every track's part in them.

    Args:
        path: the JSON file; its folder exists.
        scores: methods scored on the same tracks.
        benchmark: its name, with the split.
        verdicts: the bars applied.
    """
    content = {
        "benchmark": benchmark,
        "tracks": len(scores[0].tracks),
        "methods": {score.name: _method_record(score) for score in scores},
        "bars": [
            {
                **asdict(verdict.bar),
                "method": verdict.method,
                "gain": _finite(verdict.gain),
                "passed": verdict.passed,
            }
            for verdict in verdicts
        ],
    }
    path.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def _method_record(score: MethodScore) -> dict[str, object]:
    """Lay a method out for JSON."""
    return {
        "learned": score.learned,
        "uses_depth": score.uses_depth,
        "seconds": round(score.seconds, 3),
        "means": {measure: _finite(score.mean(measure)) for measure in MEASURES},
        "tracks": [asdict(track) for track in score.tracks],
    }


def _finite(mean: PooledMean) -> dict[str, float | None]:
    """Lay a mean out for JSON, which has no NaN."""
    return {key: value if math.isfinite(value) else None for key, value in asdict(mean).items()}


def _cell(mean: PooledMean, measure: Measure) -> str:
    """Write a mean and its standard error; a dash where there is none."""
    if not mean.tracks:
        return "-"
    digits = 2 if measure == "psnr" else 3
    error = "" if math.isnan(mean.standard_error) else f" ± {mean.standard_error:.{digits}f}"
    return f"{mean.value:.{digits}f}{error}"


def _verdict_line(verdict: Verdict) -> str:
    """Write one verdict with the gain it rests on."""
    bar, gain = verdict.bar, verdict.gain
    outcome = "pass" if verdict.passed else "FAIL"
    figures = f"{gain.value:+.3f} ± {gain.standard_error:.3f} over {bar.baseline}, bar {bar.margin:+.2f}"
    return f"{outcome}  {verdict.method}: {bar.measure} {figures}"


def _seconds(score: MethodScore) -> str:
    """Write a method's mean time a track."""
    return f"{score.seconds / len(score.tracks):.2f}"
