"""Scores prediction files of this or another program against annotations, track by track."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from tqdm import tqdm

from amodal_diffusion.basics import InputError
from amodal_diffusion.data.index import stream_entries
from amodal_diffusion.data.records import TrackRecord, parse_record
from amodal_diffusion.data.tao_amodal import TaoRecord, read_first_tracks, stream_tao_records
from amodal_diffusion.evaluation.exports import Export, Format, exported_files, open_export, read_formats
from amodal_diffusion.evaluation.prediction_files import (
    MissingPredictionError,
    PredictionFile,
    kind_of_results,
    read_instances,
)
from amodal_diffusion.evaluation.results import json_text
from amodal_diffusion.evaluation.scores import BoxPool, MaskPool, MaskScores, best_of, score_masks
from amodal_diffusion.evaluation.settings import ScoreSettings
from amodal_diffusion.evaluation.true_instances import ResultKind, TrueInstances
from amodal_diffusion.io.json_files import first_character
from amodal_diffusion.io.result_folder import InputRecord, OutputFolder
from amodal_diffusion.metrics import (
    MOST_HIDDEN_TRACK,
    PROTOCOLS,
    THRESHOLDS,
    Calibration,
    Reliability,
    Values,
    average_precision,
    box_iou,
    probability_map,
)
from amodal_diffusion.types import BoolArray

SUMMARY, TRACKS = "summary.json", "tracks.jsonl"
logger = logging.getLogger(__name__)


def score_predictions(settings: ScoreSettings, *, version: str) -> dict[str, Any]:
    """Score prediction files and write the scores and the exports.

    Args:
        settings: the files and where the scores go.
        version: version of the package, written into the summary.

    Returns:
        the content of summary.json.

    Raises:
        InputError: if a file is not of its layout, a prediction is missing, or the folder holds something else.
    """
    for path in (settings.annotations, *settings.predictions):
        if not path.is_file():
            raise InputError(f"{path}: no such file")
    formats = read_formats(settings.export)
    inputs = {f"predictions_{number}": path for number, path in enumerate(settings.predictions)}
    folder = OutputFolder(
        settings.out,
        inputs={name: InputRecord.of(path) for name, path in {"annotations": settings.annotations, **inputs}.items()},
        settings={"command": "score", "export": formats, "version": version},
        overwrite=settings.overwrite,
    )
    with folder.opened():
        exported = exported_files(formats, lambda: stream_records(settings.annotations))
        with folder.step("scores", [SUMMARY, TRACKS, *exported]) as work:
            summary = {"version": version, **_score(settings, work, formats)}
            (work / SUMMARY).write_text(json_text(summary), encoding="utf-8")
        folder.commit()
    return summary


def _score(settings: ScoreSettings, work: Path, formats: Sequence[Format]) -> dict[str, Any]:
    """Score boxes, a result list, or masks by key, whichever the files hold."""
    layout = layout_of(settings.annotations)
    boxes = layout == "tao-amodal"
    kind = None if boxes else kind_of_results(settings.predictions[0])
    if (boxes or kind) and (formats or len(settings.predictions) > 1):
        raise InputError("predictions, export: boxes and result lists are scored one file at a time and not exported")
    if kind is not None:
        truth = _true_instances(settings.annotations, layout, kind)
        return score_instances(settings.predictions[0], kind, truth, annotations=settings.annotations)
    if layout in _OF_RESULTS:
        raise InputError(
            f"{settings.predictions[0]}: expected a list of results, got masks by key; annotations in the layout of "
            f"{layout} are scored by average precision alone"
        )
    with ExitStack() as stack:
        files = [stack.enter_context(PredictionFile(path)) for path in settings.predictions]
        if boxes:
            first_tracks = {} if settings.track_ids is None else read_first_tracks(settings.track_ids)
            of_boxes = BoxRescoring(files[0], first_tracks, skip_missing=settings.skip_missing)
            _write_tracks(of_boxes.tracks(stream_tao_records(settings.annotations)), settings, work)
            _refuse_none(of_boxes.tally, settings)
            return of_boxes.record()
        exports = [stack.enter_context(closing(open_export(name, work))) for name in formats]
        of_masks = MaskRescoring(files, exports=exports, skip_missing=settings.skip_missing)
        _write_tracks(of_masks.tracks(stream_records(settings.annotations)), settings, work)
        _refuse_none(of_masks.tally, settings)
        return of_masks.record()


_OF_RESULTS: Mapping[str, ResultKind] = {"coco": "coco", "youtube-vis": "youtube-vis"}
"""Layouts of annotations that only lists of results are scored against."""


def layout_of(path: Path) -> Literal["sail-vos", "tao-amodal", "coco", "youtube-vis"]:
    """Layout of an annotation file by how it begins: a list of tracks, or an object with ``images`` or ``videos``.

    Raises:
        InputError: if the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            is_object = first_character(file.read(4096)) == "{"
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    if is_object:
        return "coco" if next(stream_entries(path, "videos"), None) is None else "youtube-vis"
    first = next(stream_entries(path), None)
    return "tao-amodal" if isinstance(first, Mapping) and "amodal_bboxes" in first else "sail-vos"


def _true_instances(path: Path, layout: str, kind: ResultKind) -> TrueInstances:
    if layout not in _OF_RESULTS:
        return TrueInstances.of(stream_records(path))
    if _OF_RESULTS[layout] != kind:
        raise InputError(f"predictions: expected a list of {_OF_RESULTS[layout]} results as {path} is, got {kind}")
    return TrueInstances.of_images(path) if kind == "coco" else TrueInstances.of_videos(path)


def _write_tracks(tracks: Iterable[dict[str, object]], settings: ScoreSettings, work: Path) -> None:
    """Write the scores of each track on one line as soon as it is scored."""
    with (work / TRACKS).open("w", encoding="utf-8") as file:
        for track in tqdm(tracks, desc="tracks", unit="track", disable=settings.quiet):
            file.write(json_text(track, indent=None))


def _refuse_none(tally: Tally, settings: ScoreSettings) -> None:
    """Refuse predictions of which no track is in the annotations, which ``--skip-missing`` would skip all."""
    if tally.skipped and not tally.scored:
        raise InputError(
            f"predictions: 0 of {len(tally.skipped)} tracks of {settings.annotations} have a prediction in "
            f"{settings.predictions[0]}; give the annotations that were evaluated"
        )


def describe_scores(summary: Mapping[str, Any]) -> str:
    """Lay out the main figures for the terminal.

    Args:
        summary: content of summary.json.
    """
    lines = []
    for key in ("strict", "released"):
        if key in summary:
            scores = summary[key]
            lines.append(
                f"{key:9} mIoU {_figure(scores['miou'])} over {scores['frames']} frames, "
                f"mIoU_occ {_figure(scores['miou_occ'])} over {scores['occluded_frames']}"
            )
    if "boxes" in summary:
        boxes = summary["boxes"]
        above = ", ".join(f"{threshold:g} {_figure(boxes[f'above_{threshold:g}'])}" for threshold in THRESHOLDS)
        lines.append(f"boxes     IoU {_figure(boxes['miou'])}; share of frames above {above}")
    for name, scores in summary.get("published", {}).items():
        lines.append(f"{name:9} mIoU_occ {_figure(scores['miou_occ'])}")
    for key, name in (("ap", "AP"), ("video_ap", "vAP")):
        if key in summary:
            lines += _precision_lines(name, summary[key])
    skipped = summary.get("tracks", {}).get("skipped", {})
    if skipped:
        lines.append(f"{len(skipped)} track(s) without a prediction were left out; {SUMMARY} names them")
    return "\n".join(lines)


def _precision_lines(name: str, scores: Mapping[str, Any]) -> list[str]:
    """AP or vAP with AR, then its ranges of size and occlusion."""
    by_range = {
        **{f"{size} size": value for size, value in scores["ap50_by_size"].items()},
        **{f"{rate} occlusion": value for rate, value in scores["ap50_by_occlusion"].items()},
    }
    main = (
        f"{name} {_figure(scores['ap'])}, {name}50 {_figure(scores['ap50'])}, {name}75 {_figure(scores['ap75'])}, "
        f"AR@1 {_figure(scores['ar1'])}, AR@10 {_figure(scores['ar10'])}, AR@100 {_figure(scores['ar100'])}; "
        f"{scores['instances']} true instances, {scores['left_out']} more are hidden too much to count"
    )
    ranges = ", ".join(f"{range_} {_figure(value)}" for range_, value in by_range.items())
    return [main, f"{name}50 by range: {ranges}"]


def _figure(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.4f}"


@dataclass
class Tally:
    """Which tracks were scored.

    Attributes:
        scored: number of scored tracks.
        skipped: reasons why tracks were left out, by track.
    """

    scored: int = 0
    skipped: dict[str, str] = field(default_factory=dict)

    def record(self) -> dict[str, object]:
        """For JSON."""
        return {"scored": self.scored, "skipped": self.skipped}


class MaskRescoring:
    """Scores the masks of one or several prediction files; several are samples of one method."""

    def __init__(
        self, predictions: Sequence[PredictionFile], *, exports: Sequence[Export] = (), skip_missing: bool = False
    ) -> None:
        """Start with no tracks.

        Args:
            predictions: open files; with several, means are over all of them, and the best of them is scored too.
            exports: exports that get the masks of the first file, with the modal masks added.
            skip_missing: leave out tracks without a prediction, instead of refusing the file.
        """
        self._predictions, self._exports, self._skip_missing = predictions, exports, skip_missing
        self._all, self._best, self._calibration = MaskPool(), MaskPool(), Calibration()
        self.tally = Tally()

    def tracks(self, records: Iterable[TrackRecord]) -> Iterator[dict[str, object]]:
        """Score one track after another.

        Args:
            records: the annotations, read one at a time.

        Yields:
            scores of a track, for JSON.

        Raises:
            InputError: if a prediction is missing (unless those are skipped) or damaged; names the track.
        """
        for number, record in enumerate(records):
            name = f"track {number}, object {record.obj_id}, {record.image_file_names[0]}"
            try:
                samples = [file.masks(record) for file in self._predictions]
            except MissingPredictionError as error:
                if not self._skip_missing:
                    raise InputError(f"{name}: {error}; give it, or --skip-missing to leave the track out") from error
                self.tally.skipped[name] = str(error)
                continue
            yield self._score(name, record, samples)

    def record(self) -> dict[str, object]:
        """All means so far, for JSON."""
        record = {"tracks": self.tally.record(), "samples": len(self._predictions), **self._all.record()}
        if len(self._predictions) > 1:
            record["best_of_samples"] = self._best.record()
            record["calibration"] = _curve(self._calibration.result())
        return record

    def _score(self, name: str, record: TrackRecord, samples: Sequence[BoolArray]) -> dict[str, object]:
        modal, amodal = record.modal_masks(), record.amodal_masks()
        scores = [score_masks(sample, modal, amodal) for sample in samples]
        self._all.add(scores)
        self.tally.scored += 1
        if len(samples) > 1:
            self._best.add([best_of(scores)])
            self._calibration.add(probability_map(samples), amodal, ~modal)
        for export in self._exports:
            export.add(record, samples[0] | modal)
        return {"track": name, "samples": [_sample_record(score) for score in scores]}


class BoxRescoring:
    """Scores the boxes of one prediction file for TAO-Amodal."""

    def __init__(
        self, predictions: PredictionFile, first_tracks: Mapping[int, int], *, skip_missing: bool = False
    ) -> None:
        """Start with no tracks.

        Args:
            predictions: an open file.
            first_tracks: by video, the track whose number in the file's keys is 1; a video that it does not have
                is keyed by the annotation's own track number.
            skip_missing: leave out tracks without a prediction, instead of refusing the file.
        """
        self._predictions, self._first_tracks, self._skip_missing = predictions, first_tracks, skip_missing
        self._pool = BoxPool()
        self.tally = Tally()

    def tracks(self, records: Iterable[TaoRecord]) -> Iterator[dict[str, object]]:
        """Score one track after another; arguments, yields and errors as for `MaskRescoring.tracks`."""
        for record in records:
            name = f"track {record.track_id} of video {record.video_id}"
            number = record.track_id - self._first_tracks.get(record.video_id, 1) + 1
            try:
                boxes = self._predictions.boxes(record, number)
            except MissingPredictionError as error:
                if not self._skip_missing:
                    raise InputError(
                        f"{name}: {error}; give it, or the video's first track with --track-ids, or --skip-missing"
                    ) from error
                self.tally.skipped[name] = str(error)
                continue
            ious = box_iou(boxes, np.asarray(record.amodal_bboxes))
            self._pool.add(ious)
            self.tally.scored += 1
            yield {"track": name, "box_iou": ious.tolist()}

    def record(self) -> dict[str, object]:
        """All means so far, for JSON."""
        return {"tracks": self.tally.record(), "samples": 1, "boxes": self._pool.record()}


def stream_records(path: Path) -> Iterator[TrackRecord]:
    """Read and check the tracks of an annotation file one by one, whatever its size.

    Args:
        path: in the layout of SAIL-VOS sequences.

    Raises:
        InputError: if the file cannot be read or a track is not of the layout; names it.
    """
    for number, entry in enumerate(stream_entries(path)):
        yield parse_record(entry, where=f"{path}: track {number}")


def _sample_record(scores: MaskScores) -> dict[str, object]:
    """One prediction's frames, for JSON."""
    frames: dict[str, object] = {
        protocol: {
            "iou": _rounded(scores.protocols[protocol].frames.iou),
            "occluded_iou": _rounded(scores.protocols[protocol].frames.occluded_iou),
        }
        for protocol in PROTOCOLS
    }
    return {
        **frames,
        "boundary_f": _rounded(scores.boundary_f),
        "instability": _rounded(scores.instability),
        "box_iou": _rounded(scores.box_iou),
    }


def _rounded(values: Values) -> list[float]:
    return np.round(values, 6).tolist()


def _curve(reliability: Reliability) -> dict[str, object]:
    return {
        "expected_calibration_error": reliability.error,
        "expected_calibration_error_where_predicted": reliability.error_where_predicted,
        "pixels": reliability.pixels.tolist(),
        "predicted": reliability.predicted.tolist(),
        "observed": reliability.observed.tolist(),
    }


def score_instances(path: Path, kind: ResultKind, truth: TrueInstances, *, annotations: Path) -> dict[str, object]:
    """Average precision of a result list, class-agnostic, for JSON.

    Tracks that are hidden by more than three quarters do not count for videos, as published.

    Args:
        path: a result list, see `kind_of_results`.
        kind: layout of the results.
        truth: instances that the results are matched with.
        annotations: their file, for messages.

    Raises:
        InputError: if a result is damaged, or the annotations have no image or video of the results.
    """
    predictions, coverage = read_instances(path, kind, truth)
    things = "images" if kind == "coco" else "videos"
    if coverage.given and not coverage.found:
        raise InputError(
            f"predictions: 0 of {coverage.given} {things} of {path} are in {annotations} by number, file name and "
            "size; give the annotations that were evaluated"
        )
    left_out = {}
    if coverage.found < coverage.given:
        logger.warning(
            "%s: %d of %d %s are in %s; results on the others are left out",
            path, coverage.found, coverage.given, things, annotations,
        )  # fmt: skip
        left_out = {f"{things}_left_out": coverage.given - coverage.found}
    if kind == "coco":
        return {**left_out, "ap": asdict(average_precision(truth.images, predictions))}
    return {**left_out, "video_ap": asdict(average_precision(truth.videos, predictions, most_hidden=MOST_HIDDEN_TRACK))}
