"""The report of a run: a table to read, verdicts, and results.json."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from amodal_diffusion.evaluation.bars import Verdict
from amodal_diffusion.evaluation.json_text import json_text
from amodal_diffusion.evaluation.scoring import MethodScore, TrackScore
from amodal_diffusion.metrics import PROTOCOLS, Pooled, TrackScores

_HEADER = (
    "method", "mIoU", "mIoU_occ", "fully hidden", "invented", "released mIoU", "released mIoU_occ", "s/clip"
)  # fmt: skip
_PSNR = "hidden PSNR, dB"


def format_table(scores: Sequence[MethodScore]) -> str:
    """Lay the means out as a Markdown table, a row a method, each with its standard error over tracks.

    Args:
        scores: methods scored on the same tracks; painted content has a column if any was scored.
    """
    content = any(score.content["psnr"].tracks for score in scores)
    header = [*_HEADER, _PSNR] if content else list(_HEADER)
    rows = [_row(score, content=content) for score in scores]
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
    lines = [header, ["-" * width for width in widths], *rows]
    return "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines
    )


def format_verdicts(verdicts: Sequence[Verdict]) -> str:
    """Say of each bar whether it is cleared and by how much, a line each."""
    return "\n".join(_verdict_line(verdict) for verdict in verdicts)


def write_results(path: Path, scores: Sequence[MethodScore], *, benchmark: str, verdicts: Sequence[Verdict]) -> None:
    """Write all means and each track's scores.

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
            {**asdict(verdict.bar), "method": verdict.method, "gain": asdict(verdict.gain), "passed": verdict.passed}
            for verdict in verdicts
        ],
    }
    path.write_text(json_text(content), encoding="utf-8")


def _method_record(score: MethodScore) -> dict[str, object]:
    """Lay a method out for JSON."""
    return {
        "learned": score.learned,
        "uses_depth": score.uses_depth,
        "seconds_per_track": round(score.seconds, 4),
        **{protocol: asdict(score.summary(protocol)) for protocol in PROTOCOLS},
        "content": {name: asdict(mean) for name, mean in score.content.items()},
        "frechet_video_distance": score.frechet_video_distance,
        "tracks": [_track_record(track) for track in score.tracks],
    }


def _track_record(track: TrackScore) -> dict[str, object]:
    """Lay a track out for JSON."""

    def means(scores: TrackScores) -> dict[str, float]:
        return {name: getattr(scores, name) for name in ("miou", "miou_occ", "miou_hidden", "invented")}

    return {
        "identity": track.identity,
        "strict": means(track.strict),
        "released": means(track.released),
        "content": asdict(track.content),
    }


def _row(score: MethodScore, *, content: bool) -> list[str]:
    """Write the cells of a method."""
    strict, released = score.summary("strict"), score.summary("released")
    cells = [
        score.name,
        _cell(strict.miou),
        _cell(strict.miou_occ),
        _cell(strict.miou_hidden),
        "-" if math.isnan(strict.invented) else f"{strict.invented:.3f}",
        _cell(released.miou),
        _cell(released.miou_occ),
        f"{score.seconds:.2f}",
    ]
    return [*cells, _cell(score.content["psnr"], digits=2)] if content else cells


def _cell(mean: Pooled, digits: int = 3) -> str:
    """Write a mean and its standard error; a dash where there is none."""
    if not mean.tracks:
        return "-"
    return f"{mean.value:.{digits}f}{_error(mean, digits)}"


def _error(mean: Pooled, digits: int = 3) -> str:
    """Write a standard error; nothing where a single track gives none."""
    return "" if math.isnan(mean.standard_error) else f" ± {mean.standard_error:.{digits}f}"


def _verdict_line(verdict: Verdict) -> str:
    """Write one verdict with the gain it rests on."""
    bar, gain = verdict.bar, verdict.gain
    outcome = "pass" if verdict.passed else "FAIL"
    figures = f"{gain.value:+.3f}{_error(gain)} over {bar.baseline}, bar {bar.margin:+.2f}"
    return f"{outcome}  {verdict.method}: {bar.measure} {figures}"
