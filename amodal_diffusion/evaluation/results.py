"""Results of tracks, and the files that keep them until the report is written."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from amodal_diffusion.evaluation.scores import (
    BoxScores,
    ContentScores,
    MaskScores,
    as_values,
    read_scores,
    scores_record,
)
from amodal_diffusion.frames.masks import Rle
from amodal_diffusion.io.atomic import write_text
from amodal_diffusion.metrics import Protocol, Values

FOLDER = "tracks"
Measure = Literal["miou", "miou_occ", "box_iou"]


@dataclass(frozen=True)
class Sample:
    """One prediction of one track.

    Attributes:
        scores: scores of every frame.
        masks: predicted amodal mask of each frame, with the modal mask added.
    """

    scores: MaskScores | BoxScores
    masks: tuple[Rle, ...]


@dataclass(frozen=True)
class MethodResult:
    """Result of one method on one track.

    Attributes:
        samples: the predictions.
        calibration: sums of `Calibration`, float64 ``[3, bins + 1]``; None with one prediction.
        content: scores of the painted content; None if content was not scored.
        features: features of the painted content for the Frechet video distance, float64 ``[D]``.
        seconds: seconds that one prediction took.
    """

    samples: tuple[Sample, ...]
    calibration: Values | None = None
    content: ContentScores | None = None
    features: Values | None = None
    seconds: float = 0.0

    def frame_means(self, protocol: Protocol = "strict") -> dict[Measure, Values]:
        """Main measures of each frame in one protocol, mean over the predictions, float64 ``[F]``."""
        kept = [sample.scores for sample in self.samples]
        boxes: dict[Measure, Values] = {"box_iou": np.mean([scores.box_iou for scores in kept], axis=0)}
        frames = [scores.protocols[protocol].frames for scores in kept if isinstance(scores, MaskScores)]
        if not frames:
            return boxes
        return {
            "miou": np.mean([frame.iou for frame in frames], axis=0),
            "miou_occ": np.mean([frame.occluded_iou for frame in frames], axis=0),
            **boxes,
        }


@dataclass(frozen=True)
class TargetResult:
    """Results of all methods on one track.

    Attributes:
        index: index of the track in the benchmark.
        identity: identity of the track.
        occlusion: hidden share of the object in each frame, float64 ``[F]``, NaN where the object is not in the frame;
            None if only boxes are known.
        methods: results by name of the method, in order.
        true_features: features of the true content, see `MethodResult.features`.
        process: number of the process that scored the track.
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
class SkippedTarget:
    """A track that is left out.

    Attributes:
        index: index of the track in the benchmark.
        identity: identity of the track.
        reason: the error.
    """

    index: int
    identity: str
    reason: str


class ResultStore:
    """One file per track, which outlives an interrupted run."""

    def __init__(self, folder: Path, count: int) -> None:
        """Name the files.

        Args:
            folder: work folder of the results.
            count: number of tracks.
        """
        self._paths = [folder / name for name in self.files(count)]

    @staticmethod
    def files(count: int) -> list[str]:
        """Names of the files of `count` tracks, relative to the work folder."""
        return [f"{FOLDER}/{index:06d}.json" for index in range(count)]

    def write(self, result: TargetResult | SkippedTarget) -> None:
        """Keep the result of a track; the file is whole or absent."""
        write_text(self._paths[result.index], json_text(_record(result), indent=None))

    def missing(self, *, keep_skipped: bool) -> list[int]:
        """Indices of the tracks that are still to do.

        Args:
            keep_skipped: whether a track that was left out counts as done.
        """
        return [
            index
            for index, path in enumerate(self._paths)
            if not path.is_file() or not (keep_skipped or isinstance(self.read(index), TargetResult))
        ]

    def read(self, index: int) -> TargetResult | SkippedTarget:
        """The kept result of a track."""
        return _read(json.loads(self._paths[index].read_text(encoding="utf-8")))

    def __iter__(self) -> Iterator[TargetResult | SkippedTarget]:
        """All results in the benchmark's order, read one at a time."""
        return (self.read(index) for index in range(len(self._paths)))

    def write_results(self, path: Path, head: Mapping[str, object]) -> None:
        """Write all predictions and scores as one JSON file, one track per line.

        Args:
            path: the file.
            head: entries that come before the tracks.
        """
        text = json_text(dict(head))
        with path.open("w", encoding="utf-8") as file:
            file.write(text.rstrip().removesuffix("}").rstrip() + ',\n "tracks": [')
            for index, track in enumerate(self):
                file.write(",\n  " if index else "\n  ")
                file.write(json_text(_record(track)["result"], indent=None).rstrip())
            file.write("\n ]\n}\n")


def _record(result: TargetResult | SkippedTarget) -> dict[str, object]:
    """For JSON: ``result`` follows from the inputs alone; ``aside`` differs from run to run, or is not reported."""
    if isinstance(result, SkippedTarget):
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


def _read(record: Mapping[str, Any]) -> TargetResult | SkippedTarget:
    result = record["result"]
    if "skipped" in result:
        return SkippedTarget(result["index"], result["identity"], result["skipped"])
    aside = record["aside"]
    methods = {
        name: _read_method(entry, seconds=aside["seconds"][name], features=aside["features"][name])
        for name, entry in result["methods"].items()
    }
    return TargetResult(
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


def json_text(content: object, *, indent: int | None = 1) -> str:
    """Write results as JSON text, with null for NaN, which JSON does not have.

    Args:
        content: a value that `json` takes; may contain NaN.
        indent: spaces per level; None for one line.
    """
    return json.dumps(_without_nan(content), indent=indent, allow_nan=False) + "\n"


def _without_nan(value: object) -> object:
    if isinstance(value, dict):
        return {key: _without_nan(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(entry) for entry in value]
    return None if isinstance(value, float) and math.isnan(value) else value
