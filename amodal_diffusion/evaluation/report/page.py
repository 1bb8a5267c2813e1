"""The report as one web page that holds all its pictures and needs no other host."""

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
"""How many of the worst tracks are listed."""
_TEMPLATE = "report.html.j2"
_CAPTIONS = {
    "iou_by_occlusion.png": "IoU of the whole object and of its hidden part by how much of it is hidden, with 95 % "
    "confidence intervals over tracks.",
    "tracks.png": "How the tracks' means are spread; the dashed line is the median.",
    "reliability.png": "Of the pixels that a share of the samples has, how many are the object's; on the dashed line "
    "that same share. Below it the samples agree more often than they are right.",
}


@dataclass(frozen=True)
class _Picture:
    source: str
    caption: str


@dataclass(frozen=True)
class _Line:
    """A track in the list of the worst."""

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
    summary: Mapping[str, Any], gathered: RunSummary, *, plots: Mapping[str, bytes], shown: Sequence[ShownTarget]
) -> str:
    """Lay the page out.

    Args:
        summary: as in summary.json.
        gathered: what it was made from.
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
    pictures = [_shown(track, gathered) for track in shown]
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
        ranked_by=gathered.ranked_by,
        measure=NAMES[gathered.measure],
        lines=[_line(rank, track, gathered) for rank, track in enumerate(gathered.ranking()[:LISTED], 1)],
        worst=[picture for picture in pictures if picture.place == "worst"],
        others=[picture for place in ("median", "best") for picture in pictures if picture.place == place],
        measures=MEASURES,
        skipped=summary["tracks"]["skipped"],
        settings={name: said(value) for name, value in summary["settings"].items()},
        command=summary["command"],
    )


def _line(rank: int, track: TargetMeans, gathered: RunSummary) -> _Line:
    scores = [_figure(means.get(gathered.measure, math.nan)) for means in track.methods.values()]
    hidden = NOTHING if math.isnan(track.occlusion) else f"{100 * track.occlusion:.0f} %"
    return _Line(rank, track.identity, hidden, scores)


def _shown(track: ShownTarget, gathered: RunSummary) -> _Shown:
    scores = [f"{name} {_figure(means.get(gathered.measure, math.nan))}" for name, means in track.means.methods.items()]
    text = f"{NAMES[gathered.measure]}: {', '.join(scores)}"
    return _Shown(track.place, track.means.identity, text, _inline(jpeg(track.sheet), "jpeg"))


def _inline(content: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"


def _figure(value: float) -> str:
    return NOTHING if math.isnan(value) else f"{value:.3f}"
