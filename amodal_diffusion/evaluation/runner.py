"""An evaluation: score a track with every method, keep its result, and finish with the files of the report."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeGuard

import numpy as np
import torch

from amodal_diffusion.basics import InputError
from amodal_diffusion.evaluation.benchmarks.base import (
    Benchmark,
    BoxTarget,
    MaskTarget,
    Target,
    prediction_entries,
    without_estimated_depth,
)
from amodal_diffusion.evaluation.exports import (
    Format,
    files_of_exports,
    prediction_files,
    write_exports,
    write_predictions,
)
from amodal_diffusion.evaluation.methods import Method, check_depth
from amodal_diffusion.evaluation.report.page import render_page
from amodal_diffusion.evaluation.report.pictures import SHEET, choose_shown, write_contact_sheet
from amodal_diffusion.evaluation.report.plots import PLOTS, draw_plots
from amodal_diffusion.evaluation.report.tables import markdown
from amodal_diffusion.evaluation.results import (
    FOLDER,
    MethodResult,
    ResultStore,
    Sample,
    SkippedTarget,
    TargetResult,
    json_text,
)
from amodal_diffusion.evaluation.scores import (
    BoxScores,
    ContentScorer,
    ContentScores,
    MaskScores,
    score_boxes,
    score_masks,
)
from amodal_diffusion.evaluation.summary import RunSummary
from amodal_diffusion.frames.masks import encode_rle
from amodal_diffusion.io.result_folder import OutputFolder
from amodal_diffusion.metrics import Calibration, Values, probability_map
from amodal_diffusion.types import BoolArray

STOP = f"{FOLDER}/stop"
"""The file by which a process that cannot go on stops the others."""
RESULTS, SUMMARY, SUMMARY_TEXT, TIMING, PAGE = (
    "results.json", "summary.json", "summary.md", "timing.json", "report.html"
)  # fmt: skip
PLOT_FOLDER = "plots"
BadTrack = Literal["stop", "skip"]


class Scorer:
    """Predicts and scores tracks with a fixed list of methods."""

    def __init__(
        self, methods: Sequence[Method], *, top_k: int = 1, content: ContentScorer | None = None, process: int = 0
    ) -> None:
        """Fix how tracks are scored.

        Args:
            methods: baselines and models.
            top_k: number of predictions of a model; a baseline gives one.
            content: scores painted content as well; None to score masks alone.
            process: number of this process, kept with each result.
        """
        self.methods, self._top_k, self._content, self._process = methods, top_k, content, process

    def check(self, track: Target) -> None:
        """Refuse a benchmark that lacks what a method needs, which is no fault of the single track.

        Raises:
            InputError: if a method needs depth and the track has none.
        """
        check_depth(self.methods, track)

    def score(self, track: Target, index: int) -> TargetResult:
        """Predict a track with every method and score the predictions.

        Args:
            track: the target.
            index: index of the track in the benchmark.

        Raises:
            InputError: if a method cannot complete the track.
        """
        return TargetResult(
            index=index,
            identity=track.identity,
            occlusion=occlusion_of(track) if isinstance(track, MaskTarget) else None,
            methods={method.name: self._score(method, track) for method in self.methods},
            true_features=self._true_features(track),
            process=self._process,
        )

    def _score(self, method: Method, track: Target) -> MethodResult:
        count = self._top_k if method.learned else 1
        started = time.perf_counter()
        masks = [method.predict(track, sample=sample) | track.clip.modal_mask for sample in range(count)]
        seconds = (time.perf_counter() - started) / count
        content, features = self._paint(method, track)
        return MethodResult(
            samples=tuple(Sample(_scores(mask, track), tuple(map(encode_rle, mask))) for mask in masks),
            calibration=_calibration(masks, track),
            content=content,
            features=features,
            seconds=seconds,
        )

    def _paint(self, method: Method, track: Target) -> tuple[ContentScores | None, Values | None]:
        if self._content is None or not _has_hidden_colors(track):
            return None, None
        painted = method.paint(track)
        return self._content.score(track, painted), self._content.features(track, painted)

    def _true_features(self, track: Target) -> Values | None:
        if self._content is None or not _has_hidden_colors(track) or track.amodal_rgb is None:
            return None
        return self._content.features(track, track.amodal_rgb)


def occlusion_of(track: MaskTarget) -> Values:
    """Hidden share of the object in each frame, float64 ``[F]``; NaN where the object is not in the frame."""
    area = track.amodal_mask.sum(axis=(1, 2)).astype(np.float64)
    hidden = (track.amodal_mask & ~track.clip.modal_mask).sum(axis=(1, 2)).astype(np.float64)
    share = np.full(len(area), np.nan)
    np.divide(hidden, area, out=share, where=area > 0)
    return share


def _has_hidden_colors(track: Target) -> TypeGuard[MaskTarget]:
    """Whether the track hides something whose true colors are known."""
    if not isinstance(track, MaskTarget) or track.amodal_rgb is None:
        return False
    return bool((track.amodal_mask & ~track.clip.modal_mask).any())


def _scores(mask: BoolArray, track: Target) -> MaskScores | BoxScores:
    if isinstance(track, MaskTarget):
        return score_masks(mask, track.clip.modal_mask, track.amodal_mask)
    if isinstance(track, BoxTarget):
        return score_boxes(mask, track.clip.modal_mask, track.amodal_boxes)
    raise RuntimeError(f"{track.identity}: a track without its truth")


def _calibration(masks: Sequence[BoolArray], track: Target) -> Values | None:
    if len(masks) < 2 or not isinstance(track, MaskTarget):
        return None
    calibration = Calibration()
    calibration.add(probability_map(masks), track.amodal_mask, ~track.clip.modal_mask)
    return calibration.sums()


@dataclass(frozen=True)
class Provenance:
    """Where results come from; the report states it.

    Attributes:
        settings: everything that the results depend on, JSON values.
        command: the command that repeats the run in another folder.
        formats: formats in which predictions are exported.
        processes: number of processes that finish the run.
        device: torch's name of the main process's device.
    """

    settings: Mapping[str, Any]
    command: str
    formats: Sequence[Format]
    processes: int
    device: str


@dataclass(frozen=True)
class Findings:
    """The figures of a finished run.

    Attributes:
        summary: the content of summary.json.
        seconds: mean seconds of one prediction, by method.
    """

    summary: dict[str, Any]
    seconds: dict[str, float]


@dataclass(frozen=True)
class Run:
    """The tracks of a benchmark, the methods, and the folder of the results.

    Attributes:
        benchmark: gives the tracks.
        scorer: has the methods.
        folder: work folder of the results, shared by all processes.
        on_bad_track: ``stop`` ends the run at a track that cannot be read or completed; ``skip`` leaves it out.
    """

    benchmark: Benchmark
    scorer: Scorer
    folder: Path
    on_bad_track: BadTrack = "stop"

    @property
    def store(self) -> ResultStore:
        """The files of the tracks that are done."""
        return ResultStore(self.folder, len(self.benchmark))

    def begin(self, folder: OutputFolder) -> list[int]:
        """Prepare the work folder, in one process before any of them scores.

        Args:
            folder: open; its work folder is `Run.folder`.

        Returns:
            indices of the tracks that are still to do.
        """
        work = folder.pieces(FOLDER, [*ResultStore.files(len(self.benchmark)), STOP])
        (work / STOP).unlink(missing_ok=True)
        return self.store.missing(keep_skipped=self.on_bad_track == "skip")

    def score(self, indices: Iterable[int]) -> None:
        """Score tracks and keep each result, until another process cannot go on.

        Args:
            indices: indices of the tracks in the benchmark.

        Raises:
            InputError: at a bad track, unless bad tracks are left out; names the track.
        """
        store, stop = self.store, self.folder / STOP
        for index in indices:
            if stop.exists():
                return
            try:
                store.write(self._score(index))
            except (InputError, OSError):
                stop.touch()
                raise

    def _score(self, index: int) -> TargetResult | SkippedTarget:
        identity = self.benchmark.identity(index)
        try:
            track = self.benchmark.track(index)
        except InputError as error:
            return self._skipped(index, identity, error)
        self.scorer.check(track)
        try:
            return self.scorer.score(track, index)
        except InputError as error:
            return self._skipped(index, identity, error)

    def _skipped(self, index: int, identity: str, error: InputError) -> SkippedTarget:
        if self.on_bad_track == "stop":
            raise InputError(
                f"track {identity}: {error}; mend it, or leave such tracks out with --on-bad-track skip"
            ) from error
        return SkippedTarget(index, identity, str(error))

    def finish(self, provenance: Provenance, folder: OutputFolder) -> Findings:
        """Write all files of the results from the kept tracks, and move the folder to its place.

        Args:
            provenance: what the report states about the run.
            folder: open; every track is done.

        Raises:
            InputError: if no track could be scored.
        """
        methods = [method.name for method in self.scorer.methods]
        means, timing = RunSummary(self.scorer.methods), _Timing()
        for result in self.store:
            means.add(result)
            timing.add(result)
        if not means.tracks:
            (first, *_) = means.skipped
            raise InputError(f"no track could be scored, the first, {first.identity}, because {first.reason}")
        head = {"benchmark": self.benchmark.name, "settings": provenance.settings, "command": provenance.command}
        summary = {**head, **means.record()}
        files = [RESULTS, SUMMARY, SUMMARY_TEXT, TIMING, PAGE, SHEET, *(f"{PLOT_FOLDER}/{name}" for name in PLOTS)]
        if provenance.formats:
            files += files_of_exports(self.store, methods, provenance.formats)
        entries = prediction_entries(self.benchmark)
        if entries is not None:
            files += prediction_files(methods)
        with folder.step("report", files) as work:
            self.store.write_results(work / RESULTS, head)
            _write(work / SUMMARY, json_text(summary))
            _write(work / SUMMARY_TEXT, markdown(summary))
            _write(work / TIMING, json_text(timing.record(provenance)))
            plots = draw_plots(means, methods)
            for name, content in plots.items():
                (work / PLOT_FOLDER / name).write_bytes(content)
            shown = choose_shown(means, self.benchmark, self.store)
            write_contact_sheet(shown, work / SHEET)
            _write(work / PAGE, render_page(summary, means, plots=plots, shown=shown))
            if provenance.formats:
                write_exports(self.store, methods, provenance.formats, without_estimated_depth(self.benchmark), work)
            if entries is not None:
                write_predictions(self.store, methods, entries, work)
        folder.commit(discarding=FOLDER)  # after the rename: a kill before it finds the tracks again
        return Findings(summary, timing.seconds())


class _Timing:
    """Seconds and process of each prediction, which no result depends on."""

    def __init__(self) -> None:
        self._processes: Counter[int] = Counter()
        self._seconds: dict[str, list[float]] = {}

    def add(self, result: TargetResult | SkippedTarget) -> None:
        if isinstance(result, TargetResult):
            self._processes[result.process] += 1
            for name, method in result.methods.items():
                self._seconds.setdefault(name, []).append(method.seconds)

    def seconds(self) -> dict[str, float]:
        """Mean seconds of one prediction, by method."""
        return {name: sum(values) / len(values) for name, values in self._seconds.items()}

    def record(self, provenance: Provenance) -> dict[str, object]:
        return {
            "processes": provenance.processes,
            "tracks_by_process": {str(number): count for number, count in sorted(self._processes.items())},
            "threads": torch.get_num_threads(),
            "device": provenance.device,
            "seconds_a_prediction": self.seconds(),
            "finished": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        }


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
