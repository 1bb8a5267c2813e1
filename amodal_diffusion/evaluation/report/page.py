"""The report as one web page, with its pictures inlined and nothing loaded from elsewhere."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from amodal_diffusion.evaluation.report.pictures import ShownTarget, jpeg
from amodal_diffusion.evaluation.report.tables import MEASURES, NAMES, NOTHING, describe_verdict, said, scored, tables
from amodal_diffusion.evaluation.summary import RunSummary, TargetMeans

LISTED = 20
"""Number of the worst tracks that are listed."""
_TEMPLATE = "report.html.j2"
_CAPTIONS = {
    "iou_by_occlusion.png": "IoU of the whole object and of its hidden part by how much of it is hidden, with 95 % "
    "confidence intervals over tracks.",
    "tracks.png": "Histogram of the tracks' means; the dashed line is the median.",
    "reliability.png": "Of the pixels that a share of the samples has, how many are the object's; on the dashed line "
    "that same share. Below it the samples agree more often than they are right.",
}


@dataclass(frozen=True)
class _Picture:
    source: str
    caption: str


@dataclass(frozen=True)
class _Line:
    """A line of the list of the worst tracks."""

    rank: int
    identity: str
    hidden: str
    scores: list[str]


@dataclass(frozen=True)
class _Shown:
    place: str
    identity: str
    text: str
    source: str


def render_page(
    summary: Mapping[str, Any], means: RunSummary, *, plots: Mapping[str, bytes], shown: Sequence[ShownTarget]
) -> str:
    """Render the page.

    Args:
        summary: content of summary.json.
        means: means that the summary was made from, with the ranking.
        plots: PNG files by name.
        shown: tracks with their pictures.

    Returns:
        HTML.
    """
    environment = Environment(
        loader=PackageLoader("amodal_diffusion.evaluation.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    pictures = [_shown(track, means) for track in shown]
    return environment.get_template(_TEMPLATE).render(
        benchmark=summary["benchmark"],
        scored=scored(summary),
        methods=list(summary["methods"]),
        samples=max(method["samples"] for method in summary["methods"].values()),
        thresholds=[
            {"passed": verdict["passed"], "text": describe_verdict(verdict)} for verdict in summary["thresholds"]
        ],
        tables=tables(summary),
        plots=[_Picture(_inline(content, "png"), _CAPTIONS[name]) for name, content in plots.items()],
        ranked_by=means.ranked_by,
        measure=NAMES[means.measure],
        lines=[_line(rank, track, means) for rank, track in enumerate(means.ranking()[:LISTED], 1)],
        worst=[picture for picture in pictures if picture.place == "worst"],
        others=[picture for place in ("median", "best") for picture in pictures if picture.place == place],
        measures=MEASURES,
        skipped=summary["tracks"]["skipped"],
        settings={name: said(value) for name, value in summary["settings"].items()},
        command=summary["command"],
    )


def _line(rank: int, track: TargetMeans, means: RunSummary) -> _Line:
    figures = [_figure(scores.get(means.measure, math.nan)) for scores in track.methods.values()]
    hidden = NOTHING if math.isnan(track.occlusion) else f"{100 * track.occlusion:.0f} %"
    return _Line(rank, track.identity, hidden, figures)


def _shown(track: ShownTarget, means: RunSummary) -> _Shown:
    scores = [f"{name} {_figure(values.get(means.measure, math.nan))}" for name, values in track.means.methods.items()]
    text = f"{NAMES[means.measure]}: {', '.join(scores)}"
    return _Shown(track.place, track.means.identity, text, _inline(jpeg(track.sheet), "jpeg"))


def _inline(content: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"


def _figure(value: float) -> str:
    return NOTHING if math.isnan(value) else f"{value:.3f}"
