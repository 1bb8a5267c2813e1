"""Scores published prediction files against annotations, track by track."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from amodal_diffusion.data.index import stream_entries
from amodal_diffusion.data.records import TrackRecord, parse_record
from amodal_diffusion.data.tao_amodal import TaoRecord
from amodal_diffusion.evaluation.exports import Export, Videos
from amodal_diffusion.evaluation.prediction_files import MissingPredictionError, PredictionFile
from amodal_diffusion.evaluation.scores import BoxPool, MaskPool, MaskScores, best_of, score_masks
from amodal_diffusion.frames.masks import decode_rle
from amodal_diffusion.io.coco import read_coco_mask
from amodal_diffusion.metrics import (
    MOST_HIDDEN_TRACK,
    PROTOCOLS,
    Calibration,
    Instance,
    Reliability,
    Values,
    average_precision,
    box_iou,
    probability_map,
)
from amodal_diffusion.types import BoolArray, InputError


@dataclass
class Tally:
    """What was scored and what was not.

    Attributes:
        scored: number of tracks.
        skipped: why, by track.
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
        """Begin.

        Args:
            predictions: open files; with several, means are over all of them, and the best of them is scored too.
            exports: get the masks of the first file, the modal masks added.
            skip_missing: leave tracks out that lack a prediction, instead of refusing the file.
        """
        self._predictions, self._exports, self._skip_missing = predictions, exports, skip_missing
        self._all, self._best, self._calibration = MaskPool(), MaskPool(), Calibration()
        self.tally = Tally()

    def tracks(self, records: Iterable[TrackRecord]) -> Iterator[dict[str, object]]:
        """Score one track after another.

        Args:
            records: the annotations; none is kept.

        Yields:
            the scores of a track, for JSON.

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
        """Begin.

        Args:
            predictions: an open file.
            first_tracks: by video, the track whose number in the file's keys is 1; a video that it does not have
                is keyed by the annotation's own track number.
            skip_missing: leave tracks out that lack a prediction, instead of refusing the file.
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


Kind = Literal["coco", "youtube-vis"]


@dataclass
class TrueInstances:
    """What predictions are matched with.

    Attributes:
        images: true instances of single frames; the group is the image's number.
        videos: true tracks; the group is the video's number, see `Videos`.
        sizes: height, width and number of frames, by group of `videos`; one frame, by group of `images`.
    """

    images: list[Instance]
    videos: list[Instance]
    sizes: dict[Kind, dict[str, tuple[int, int, int]]]

    @classmethod
    def of(cls, records: Iterable[TrackRecord]) -> TrueInstances:
        """Gather the instances of all tracks; frames in which the object is not are none.

        Args:
            records: the annotations.
        """
        truth = cls([], [], {"coco": {}, "youtube-vis": {}})
        numbers = Videos()
        for record in records:
            modal, amodal = record.modal_masks(), record.amodal_masks()
            video = str(numbers.number(record))
            truth.sizes["youtube-vis"][video] = (*record.size, record.num_frames)
            truth.videos.append(Instance.from_masks(video, amodal, category=record.category_id, modal=modal))
            for image, visible, whole in zip(record.image_ids, modal, amodal, strict=True):
                truth.sizes["coco"][str(image)] = (*record.size, 1)
                if whole.any():
                    truth.images.append(_of_frame(str(image), visible, whole, record.category_id))
        return truth


def kind_of_results(path: Path) -> Kind | None:
    """Which result list a file is, by its first entry; None if it is no list.

    Args:
        path: a JSON list of results, or an object with ``annotations`` as `score --export` writes it.

    Raises:
        InputError: if the file cannot be read or a list's first entry is neither.
    """
    first = next(_results(path), None)
    if first is None:
        return None
    if isinstance(first, Mapping) and "segmentations" in first:
        return "youtube-vis"
    if isinstance(first, Mapping) and "segmentation" in first:
        return "coco"
    raise InputError(
        f"{path}: expected results with segmentation (COCO) or segmentations (YouTube-VIS), got {first!r:.60}"
    )


def score_instances(path: Path, kind: Kind, truth: TrueInstances) -> dict[str, object]:
    """Average precision of a result list, class-agnostic, for JSON.

    Tracks that are hidden by more than three quarters do not count for videos, as published.

    Args:
        path: the file.
        kind: what it is.
        truth: what to match with.

    Raises:
        InputError: if a result is damaged or of an image or video that the annotations do not have; names it.
    """
    predictions = [
        _instance(entry, kind, truth.sizes[kind], where=f"{path}: result {number}")
        for number, entry in enumerate(_results(path))
    ]
    if kind == "coco":
        return {"ap": asdict(average_precision(truth.images, predictions))}
    return {"video_ap": asdict(average_precision(truth.videos, predictions, most_hidden=MOST_HIDDEN_TRACK))}


def _of_frame(group: str, modal: BoolArray, amodal: BoolArray, category: int) -> Instance:
    return Instance.from_masks(group, amodal[None], category=category, modal=modal[None])


def _results(path: Path) -> Iterator[Any]:
    """The entries of a list, or of the list ``annotations`` of an object."""
    try:
        with path.open("rb") as file:
            is_list = file.read(4096).removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"["
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    return stream_entries(path, "" if is_list else "annotations")


def _instance(entry: object, kind: Kind, sizes: Mapping[str, tuple[int, int, int]], *, where: str) -> Instance:
    group_key, mask_key = ("image_id", "segmentation") if kind == "coco" else ("video_id", "segmentations")
    if not isinstance(entry, Mapping) or mask_key not in entry:
        raise InputError(f"{where}: expected an object with {group_key}, {mask_key} and score, got {entry!r:.60}")
    group, score = str(entry.get(group_key)), entry.get("score")
    if group not in sizes:
        raise InputError(f"{where}: {group_key}: {group} is not among the annotations'")
    if not isinstance(score, int | float) or not math.isfinite(score):
        raise InputError(f"{where}: score: expected a number, got {score!r:.40}; precision needs an order of results")
    height, width, frames = sizes[group]
    masks = entry[mask_key] if kind == "youtube-vis" else [entry[mask_key]]
    if not isinstance(masks, list) or len(masks) != frames:
        raise InputError(f"{where}: {mask_key}: expected {frames} masks, one a frame, or null, got {masks!r:.40}")
    decoded = np.zeros((frames, height, width), dtype=np.bool_)
    for frame, mask in enumerate(masks):
        try:
            coded = read_coco_mask(mask, height, width)
            if coded is not None:
                decoded[frame] = decode_rle(coded)
        except InputError as error:
            raise InputError(f"{where}: {mask_key}: {error}") from error
    category = entry.get("category_id", 1)
    return Instance.from_masks(group, decoded, category=category, score=float(score))
