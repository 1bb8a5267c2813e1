"""Plots of the report: IoU against the hidden share, histograms of the tracks, reliability of the samples."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from amodal_diffusion.evaluation.results import Measure
from amodal_diffusion.evaluation.summary import BINS, CurveMeasure, RunSummary
from amodal_diffusion.metrics import Pooled, Reliability

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Distinguishable for color-blind readers too, and in gray print by the markers.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#333333", "#8C564B")
_MARKERS = "osD^vPX*"
_LABELS: dict[Measure, str] = {
    "miou": "mIoU, whole object",
    "miou_occ": "mIoU_occ, hidden part",
    "box_iou": "box IoU",
}
PLOTS = ("iou_by_occlusion.png", "tracks.png", "reliability.png")
"""Names of the files that `draw_plots` may return."""
_HISTOGRAM_BINS = 20
_DPI = 110
_INK, _GRID = "#222222", "#dddddd"


def draw_plots(summary: RunSummary, methods: Sequence[str]) -> dict[str, bytes]:
    """Draw the plots for which the run has data.

    Args:
        summary: means over all targets.
        methods: names of the methods; their order sets the colors.

    Returns:
        PNG files by name.
    """
    plots = {}
    if any(pooled.frames for name in methods for pooled in summary.curves.curve("miou", name)):
        plots["iou_by_occlusion.png"] = _draw_curves(summary, methods)
    if summary.tracks:
        plots["tracks.png"] = _draw_histograms(summary, methods)
    reliability = summary.reliability()
    if reliability:
        plots["reliability.png"] = _draw_reliability(reliability, methods)
    return plots


def _draw_curves(summary: RunSummary, methods: Sequence[str]) -> bytes:
    figure = Figure(figsize=(11, 4.4), layout="constrained")
    measures: tuple[CurveMeasure, ...] = ("miou", "miou_occ")
    for measure, axes in zip(measures, figure.subplots(1, 2), strict=True):
        first = 0 if measure == "miou" else 1  # nothing hidden: no hidden part
        for number, name in enumerate(methods):
            _draw_curve(axes, summary.curves.curve(measure, name), number, name, first=first, of=len(methods))
        _style(axes, "share of the object that is hidden, %", _LABELS[measure])
        axes.set_xticks(range(first, len(BINS)), BINS[first:])
        axes.set_ylim(-0.02, 1.02)
    _legend(figure, figure.axes[0])
    return _png(figure)


def _draw_curve(axes: Axes, curve: Sequence[Pooled], number: int, name: str, *, first: int, of: int) -> None:
    shown = [place for place, pooled in enumerate(curve) if pooled.frames and place >= first]
    values = np.asarray([curve[place].value for place in shown])
    reach = np.nan_to_num([curve[place].interval[1] - curve[place].value for place in shown])
    places = np.asarray(shown) + (number - (of - 1) / 2) * 0.07  # side by side: no interval hides another
    axes.errorbar(
        places, values, reach, label=name, color=_color(number), marker=_marker(number), markersize=6, linewidth=1.8,
        capsize=3, elinewidth=1.2,
    )  # fmt: skip


def _draw_histograms(summary: RunSummary, methods: Sequence[str]) -> bytes:
    """One row per method; overlaid histograms could not be read."""
    has_masks = any("miou" in means for track in summary.tracks for means in track.methods.values())
    measures: tuple[Measure, ...] = ("miou", "miou_occ") if has_masks else ("box_iou",)
    figure = Figure(figsize=(11, 0.9 + 1.15 * len(methods)), layout="constrained")
    grid = figure.subplots(len(methods), len(measures), sharex=True, squeeze=False)
    edges = np.linspace(0, 1, _HISTOGRAM_BINS + 1)
    for row, name in enumerate(methods):
        for column, measure in enumerate(measures):
            axes = grid[row, column]
            values = np.asarray([track.methods[name][measure] for track in summary.tracks])
            values = values[~np.isnan(values)]
            axes.hist(values, bins=edges, color=_color(row), alpha=0.85)
            if len(values):
                axes.axvline(float(np.median(values)), color=_INK, linewidth=1.4, linestyle="--")
            last = row == len(methods) - 1
            _style(axes, f"{_LABELS[measure]}, mean over the track" if last else "", "tracks" if column == 0 else "")
            axes.set_title(name, loc="left", fontsize=10, color=_INK, pad=3)
    return _png(figure)


def _draw_reliability(curves: Mapping[str, Reliability], methods: Sequence[str]) -> bytes:
    figure = Figure(figsize=(6, 5.2), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="#999999", linewidth=1.2, linestyle="--", label="perfectly calibrated")
    for name, curve in curves.items():
        there = curve.pixels > 0
        axes.plot(
            curve.predicted[there], curve.observed[there], label=f"{name}, error {curve.error:.4f}",
            color=_color(methods.index(name)), marker=_marker(methods.index(name)), markersize=7, linewidth=1.8,
        )  # fmt: skip
    _style(axes, "share of the samples that have a pixel", "share of such pixels that are the object's")
    axes.set_xlim(-0.03, 1.03)
    axes.set_ylim(-0.03, 1.03)
    axes.legend(frameon=False, loc="upper left")
    return _png(figure)


def _style(axes: Axes, x: str, y: str) -> None:
    axes.set_xlabel(x, color=_INK)
    axes.set_ylabel(y, color=_INK)
    axes.grid(axis="y", color=_GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=_INK, labelsize=9)


def _legend(figure: Figure, axes: Axes) -> None:
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=4, frameon=False)


def _png(figure: Figure) -> bytes:
    FigureCanvasAgg(figure)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=_DPI, facecolor="white")
    return buffer.getvalue()


def _color(number: int) -> str:
    return COLORS[number % len(COLORS)]


def _marker(number: int) -> str:
    return _MARKERS[number % len(_MARKERS)]
