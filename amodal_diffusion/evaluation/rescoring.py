"""Scores published prediction files against annotations, track by track."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from amodal_diffusion.data.index import stream_entries
from amodal_diffusion.data.records import TrackRecord, parse_record
from amodal_diffusion.data.tao_amodal import TaoRecord
from amodal_diffusion.evaluation.exports import Export
from amodal_diffusion.evaluation.mask_scores import BoxPool, MaskPool, MaskScores, best_of, score_masks
from amodal_diffusion.evaluation.prediction_files import MissingPredictionError, PredictionFile
from amodal_diffusion.metrics import PROTOCOLS, Calibration, Reliability, Values, box_iou, probability_map
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
