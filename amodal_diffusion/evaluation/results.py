"""JSON text of results: no NaN, which JSON does not have."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from amodal_diffusion.evaluation.content import ContentScores
from amodal_diffusion.evaluation.mask_scores import BoxScores, MaskScores, as_values, read_scores, scores_record
from amodal_diffusion.frames.masks import Rle
from amodal_diffusion.io.atomic import write_text
from amodal_diffusion.metrics import Values


def json_text(content: object, *, indent: int | None = 1) -> str:
    """Lay results out as JSON text, null where there is no value.

    Args:
        content: what `json` takes, NaN included.
        indent: blanks a level; None for one line.
    """
    return json.dumps(_without_nan(content), indent=indent, allow_nan=False) + "\n"


def _without_nan(value: object) -> object:
    if isinstance(value, dict):
        return {key: _without_nan(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(entry) for entry in value]
    return None if isinstance(value, float) and math.isnan(value) else value


FOLDER = "tracks"
Measure = Literal["miou", "miou_occ", "box_iou"]


@dataclass(frozen=True)
class Sample:
    """One prediction of one track.

    Attributes:
        scores: of every frame.
        masks: the predicted whole object in each frame, the modal mask added.
    """

    scores: MaskScores | BoxScores
    masks: tuple[Rle, ...]


@dataclass(frozen=True)
class MethodResult:
    """One method on one track.

    Attributes:
        samples: its predictions.
        calibration: sums of `Calibration`, float64 ``[3, bins + 1]``; None with one prediction.
        content: scores of what it painted; None where that was not scored.
        features: of what it painted, for the Frechet video distance, float64 ``[D]``.
        seconds: time that one prediction took.
    """

    samples: tuple[Sample, ...]
    calibration: Values | None = None
    content: ContentScores | None = None
    features: Values | None = None
    seconds: float = 0.0

    def frame_means(self) -> dict[Measure, Values]:
        """Main measures of each frame, strict protocol, mean over the predictions, float64 ``[F]`` each."""
        kept = [sample.scores for sample in self.samples]
        boxes: dict[Measure, Values] = {"box_iou": np.mean([scores.box_iou for scores in kept], axis=0)}
        frames = [scores.protocols["strict"].frames for scores in kept if isinstance(scores, MaskScores)]
        if not frames:
            return boxes
        return {
            "miou": np.mean([frame.iou for frame in frames], axis=0),
            "miou_occ": np.mean([frame.occluded_iou for frame in frames], axis=0),
            **boxes,
        }


@dataclass(frozen=True)
class TrackResult:
    """All methods on one track.

    Attributes:
        index: the track's place in the benchmark.
        identity: the track's.
        occlusion: share of the object that is hidden in each frame, float64 ``[F]``, NaN where it is not in the frame;
            None where only its boxes are known.
        methods: by name, in the order of the run.
        true_features: as `MethodResult.features`, of the truth.
        process: which one made it.
    """

    index: int
    identity: str
    occlusion: Values | None
    methods: dict[str, MethodResult]
    true_features: Values | None = None
    process: int = 0

    @property
    def num_frames(self) -> int:
        """Number of frames F."""
        return len(next(iter(self.methods.values())).samples[0].masks)


@dataclass(frozen=True)
class SkippedTrack:
    """A track that is left out.

    Attributes:
        index: its place in the benchmark.
        identity: the track's.
        reason: what is wrong with it.
    """

    index: int
    identity: str
    reason: str


class TrackStore:
    """The files of a run's tracks, one each, in a folder that outlives the run."""

    def __init__(self, folder: Path, count: int) -> None:
        """Name them.

        Args:
            folder: that `TrackStore.files` are in.
            count: number of tracks.
        """
        self._paths = [folder / name for name in self.files(count)]

    @staticmethod
    def files(count: int) -> list[str]:
        """Names of the files of so many tracks, relative to a run's folder."""
        return [f"{FOLDER}/{index:06d}.json" for index in range(count)]

    def write(self, result: TrackResult | SkippedTrack) -> None:
        """Keep a track, whole or not at all."""
        write_text(self._paths[result.index], json_text(_record(result), indent=None))

    def missing(self, *, keep_skipped: bool) -> list[int]:
        """Places of the tracks that are still to do.

        Args:
            keep_skipped: a track that was left out is done, too.
        """
        return [
            index
            for index, path in enumerate(self._paths)
            if not path.is_file() or not (keep_skipped or isinstance(self.read(index), TrackResult))
        ]

    def read(self, index: int) -> TrackResult | SkippedTrack:
        """A track that is done."""
        return _read(json.loads(self._paths[index].read_text(encoding="utf-8")))

    def __iter__(self) -> Iterator[TrackResult | SkippedTrack]:
        """All tracks in the benchmark's order, one at a time."""
        return (self.read(index) for index in range(len(self._paths)))

    def write_results(self, path: Path, head: Mapping[str, object]) -> None:
        """Write what the methods predicted and scored as one JSON file, a track a line.

        Args:
            path: the file.
            head: what comes first in it.
        """
        text = json_text(dict(head))
        with path.open("w", encoding="utf-8") as file:
            file.write(text.rstrip().removesuffix("}").rstrip() + ',\n "tracks": [')
            for index, track in enumerate(self):
                file.write(",\n  " if index else "\n  ")
                file.write(json_text(_record(track)["result"], indent=None).rstrip())
            file.write("\n ]\n}\n")


def _record(result: TrackResult | SkippedTrack) -> dict[str, object]:
    """For JSON: what follows from the inputs as ``result``, how it came about as ``aside``."""
    if isinstance(result, SkippedTrack):
        return {"result": {"index": result.index, "identity": result.identity, "skipped": result.reason}}
    return {
        "result": {
            "index": result.index,
            "identity": result.identity,
            "occlusion": _list(result.occlusion),
            "methods": {name: _method_record(method) for name, method in result.methods.items()},
        },
        "aside": {
            "process": result.process,
            "seconds": {name: method.seconds for name, method in result.methods.items()},
            "features": {name: _list(method.features) for name, method in result.methods.items()},
            "true_features": _list(result.true_features),
        },
    }


def _method_record(method: MethodResult) -> dict[str, object]:
    record: dict[str, object] = {
        "samples": [{**scores_record(sample.scores), "masks": list(sample.masks)} for sample in method.samples]
    }
    if method.calibration is not None:
        record["calibration"] = method.calibration.tolist()
    if method.content is not None:
        record["content"] = asdict(method.content)
    return record


def _read(record: Mapping[str, Any]) -> TrackResult | SkippedTrack:
    result = record["result"]
    if "skipped" in result:
        return SkippedTrack(result["index"], result["identity"], result["skipped"])
    aside = record["aside"]
    methods = {
        name: _read_method(entry, seconds=aside["seconds"][name], features=aside["features"][name])
        for name, entry in result["methods"].items()
    }
    return TrackResult(
        index=result["index"],
        identity=result["identity"],
        occlusion=_values(result["occlusion"]),
        methods=methods,
        true_features=_values(aside["true_features"]),
        process=aside["process"],
    )


def _read_method(entry: Mapping[str, Any], *, seconds: float, features: Sequence[float] | None) -> MethodResult:
    content = entry.get("content")
    return MethodResult(
        samples=tuple(Sample(read_scores(sample), tuple(sample["masks"])) for sample in entry["samples"]),
        calibration=_values(entry.get("calibration")),
        content=None if content is None else ContentScores(**{name: as_number(content[name]) for name in content}),
        features=_values(features),
        seconds=seconds,
    )


def as_number(value: float | None) -> float:
    """A number of a JSON file, NaN for null."""
    return float("nan") if value is None else value


def _list(values: Values | None) -> list[float] | None:
    return None if values is None else values.tolist()


def _values(numbers: Sequence[float | None] | None) -> Values | None:
    return None if numbers is None else as_values(numbers)
