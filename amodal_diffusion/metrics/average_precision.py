"""COCO's average precision and recall for instances of images, and the same over whole tracks of videos (vAP)."""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from amodal_diffusion.basics import InputError
from amodal_diffusion.metrics.protocols import check_masks
from amodal_diffusion.types import BoolArray

MOST_HIDDEN_TRACK = 0.75
"""Occlusion rate above which published vAP leaves a true track out."""
_EVERY_SIZE = (0.0, 1e10)
_OUTSIDE = -1.0
"""Area of what is in no range of sizes."""
SIZES = {"small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2), "large": (96.0**2, 1e10)}
"""Mean area over the frames that have the object, pixels."""
OCCLUSIONS = {"partial": (0.0, 0.25), "medium": (0.25, 0.5), "heavy": (0.25, 0.75)}
"""Occlusion rates, as published for amodal video instances."""
MOST_DETECTIONS = (1, 10, 100)


@dataclass(frozen=True)
class Instance:
    """One true or predicted object of an image (one mask) or of a video (one mask a frame).

    Attributes:
        group: name of the image or video; instances are compared within it.
        masks: COCO run lengths, one a frame, as many in every instance of a group; None for an empty mask.
        category: number of the category.
        score: confidence of a prediction.
        occlusion: occlusion rate of a true object, in [0, 1], see `occlusion_rate`; an unknown one is NaN, and is in no
            range of occlusion.
    """

    group: str
    masks: tuple[dict[str, Any] | None, ...]
    category: int = 1
    score: float = 1.0
    occlusion: float = 0.0

    @classmethod
    def from_masks(
        cls, group: str, masks: BoolArray, *, category: int = 1, score: float = 1.0, occlusion: float = 0.0
    ) -> Instance:
        """Code the masks of an instance.

        Args:
            group: name of the image or video.
            masks: whole object, bool ``[F, H, W]``.
            category: number of the category.
            score: confidence of a prediction.
            occlusion: occlusion rate of a true object.
        """
        coded = tuple(coco.encode(np.asfortranarray(mask, dtype=np.uint8)) if mask.any() else None for mask in masks)
        return cls(group, coded, category, score, occlusion)


@dataclass(frozen=True)
class AveragePrecision:
    """COCO's measures; NaN where no true instance counts.

    Attributes:
        ap: mean over the IoU thresholds 0.50, 0.55, ... 0.95 and 101 recalls.
        ap50: at IoU 0.5.
        ap75: at IoU 0.75.
        ar1: mean recall over the thresholds with one prediction an image or video.
        ar10: with ten.
        ar100: with a hundred.
        ap50_by_size: at IoU 0.5, by mean area: small, medium, large.
        ap50_by_occlusion: at IoU 0.5, by occlusion rate: partial, medium, heavy.
        instances: number of true instances that count.
        left_out: number of true instances that are hidden too much to count.
    """

    ap: float
    ap50: float
    ap75: float
    ar1: float
    ar10: float
    ar100: float
    ap50_by_size: dict[str, float]
    ap50_by_occlusion: dict[str, float]
    instances: int
    left_out: int


def occlusion_rate(modal: BoolArray, amodal: BoolArray) -> float:
    """Mean of the higher half of a track's per-frame occlusion rates, over the frames that have the object.

    Args:
        modal: visible part, bool ``[F, H, W]``.
        amodal: whole object, bool ``[F, H, W]``.

    Returns:
        in [0, 1]; 0 if no frame has the object.

    Raises:
        InputError: if shapes or dtypes differ.
    """
    check_masks(modal=modal, amodal=amodal)
    area = amodal.sum(axis=(1, 2))
    there = area > 0
    if not there.any():
        return 0.0
    return track_rate(1 - (modal & amodal).sum(axis=(1, 2))[there] / area[there])


def track_rate(rates: npt.NDArray[np.float64]) -> float:
    """Occlusion rate of a track: the mean of the higher half of its frames' rates, of an odd number the larger half.

    Args:
        rates: hidden share of the object in each frame that has it, float64 ``[F]`` in [0, 1]; at least one.
    """
    return float(np.sort(rates)[len(rates) // 2 :].mean())


def average_precision(
    truth: Sequence[Instance],
    predictions: Sequence[Instance],
    *,
    class_agnostic: bool = True,
    most_hidden: float = 1.0,
) -> AveragePrecision:
    """Match predictions with true instances as COCO does, by the IoU of all frames together.

    The IoU of two tracks is the sum of their frames' intersections over the sum of their unions, so that of two images
    is the usual one. A true instance outside of a range is neither found nor missed, nor is the prediction that matches
    it wrong; an unmatched prediction outside of a range of sizes does not count either.

    Args:
        truth: true instances of all images or videos.
        predictions: with scores; equal scores rank in the order given.
        class_agnostic: compare without categories.
        most_hidden: true instances with a higher occlusion rate do not count; `MOST_HIDDEN_TRACK` for published vAP.

    Raises:
        InputError: if instances of a group have different numbers of frames.
    """
    table = _Table(truth, predictions, class_agnostic=class_agnostic)
    hidden = np.asarray([instance.occlusion for instance in truth])
    out = hidden > most_hidden
    precision, recall = table.evaluate(out, [_EVERY_SIZE, *SIZES.values()])
    by_occlusion = {
        name: _mean(table.evaluate(out | ~((hidden >= low) & (hidden <= high)), [_EVERY_SIZE])[0][0, :, :, 0, -1])
        for name, (low, high) in OCCLUSIONS.items()
    }
    return AveragePrecision(
        ap=_mean(precision[:, :, :, 0, -1]),
        ap50=_mean(precision[0, :, :, 0, -1]),
        ap75=_mean(precision[5, :, :, 0, -1]),
        ar1=_mean(recall[:, :, 0, 0]),
        ar10=_mean(recall[:, :, 0, 1]),
        ar100=_mean(recall[:, :, 0, 2]),
        ap50_by_size={name: _mean(precision[0, :, :, at, -1]) for at, name in enumerate(SIZES, start=1)},
        ap50_by_occlusion=by_occlusion,
        instances=int((~out).sum()),
        left_out=int(out.sum()),
    )


class _Table:
    """True and predicted instances as pycocotools wants them, with the IoU of every pair of a group."""

    def __init__(self, truth: Sequence[Instance], predictions: Sequence[Instance], *, class_agnostic: bool) -> None:
        self._truth, self._predictions = truth, predictions
        self._class_agnostic = class_agnostic
        self._numbers = {name: at for at, name in enumerate(dict.fromkeys(i.group for i in (*truth, *predictions)), 1)}
        self._areas = {id(instance): _areas(instance) for instance in (*truth, *predictions)}
        self._ious = self._all_ious()

    def evaluate(
        self, ignored: npt.NDArray[np.bool_], sizes: Sequence[tuple[float, float]]
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Precision ``[T, R, K, A, M]`` and recall ``[T, K, A, M]``, -1 where nothing counts.

        The axes: IoU thresholds, recalls, categories, ranges of sizes, most detections.
        """
        if not len(self._truth):
            return np.full((10, 101, 1, len(sizes), 3), -1.0), np.full((10, 1, len(sizes), 3), -1.0)
        with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints its progress
            evaluation = COCOeval(self._dataset(self._truth, ignored), self._dataset(self._predictions), "bbox")
            evaluation.computeIoU = lambda group, category: self._ious.get((group, category), [])
            evaluation.params.areaRng = list(sizes)
            evaluation.params.areaRngLbl = [str(number) for number in range(len(sizes))]
            evaluation.params.maxDets = list(MOST_DETECTIONS)
            evaluation.evaluate()
            evaluation.accumulate()
        return evaluation.eval["precision"], evaluation.eval["recall"]

    def _dataset(self, instances: Sequence[Instance], ignored: npt.NDArray[np.bool_] | None = None) -> Any:  # noqa: ANN401
        """A COCO data set of instances without their masks."""
        dataset = COCO()
        dataset.dataset = {
            "images": [{"id": number} for number in self._numbers.values()],
            "categories": [{"id": number} for number in sorted({self._category(i) for i in self._all()})],
            "annotations": [
                {
                    "id": number,
                    "image_id": self._numbers[instance.group],
                    "category_id": self._category(instance),
                    # Not a crowd, which any number of predictions may match: published vAP lets one be forgiven.
                    "area": _OUTSIDE if ignored is not None and ignored[number - 1] else self._size(instance),
                    "score": instance.score,
                    "iscrowd": 0,
                }
                for number, instance in enumerate(instances, 1)
            ],
        }
        dataset.createIndex()
        return dataset

    def _all_ious(self) -> dict[tuple[int, int], npt.NDArray[np.float64]]:
        """IoU by group and category: predictions by falling score, as pycocotools sorts them, times true instances."""
        members: dict[tuple[int, int], tuple[list[Instance], list[Instance]]] = {}
        for side, instances in enumerate((self._predictions, self._truth)):
            for instance in instances:
                key = (self._numbers[instance.group], self._category(instance))
                members.setdefault(key, ([], []))[side].append(instance)
        table = {}
        for key, (predicted, true) in members.items():
            ranked = sorted(predicted, key=lambda instance: -instance.score)[: MOST_DETECTIONS[-1]]
            if ranked and true:
                table[key] = np.asarray([[self._iou(one, other) for other in true] for one in ranked])
        return table

    def _iou(self, first: Instance, second: Instance) -> float:
        if len(first.masks) != len(second.masks):
            raise InputError(
                f"{first.group}: expected as many frames in each instance, got {len(first.masks)} and "
                f"{len(second.masks)}"
            )
        both = sum(
            float(coco.area(coco.merge([one, other], intersect=True)))
            for one, other in zip(first.masks, second.masks, strict=True)
            if one is not None and other is not None
        )
        either = float(self._areas[id(first)].sum() + self._areas[id(second)].sum()) - both
        return both / either if either else 0.0

    def _size(self, instance: Instance) -> float:
        """Mean area over the frames that have the object, pixels."""
        areas = self._areas[id(instance)]
        return float(areas.sum()) / max(1, int(np.count_nonzero(areas)))

    def _all(self) -> Sequence[Instance]:
        return (*self._truth, *self._predictions)

    def _category(self, instance: Instance) -> int:
        return 1 if self._class_agnostic else instance.category


def _areas(instance: Instance) -> npt.NDArray[np.float64]:
    """Pixels of each frame's mask, float64 ``[F]``."""
    return np.asarray([0.0 if mask is None else float(coco.area(mask)) for mask in instance.masks])


def _mean(values: npt.NDArray[np.float64]) -> float:
    """Mean of COCO's values that are not -1."""
    kept = values[values > -1]
    return float(kept.mean()) if kept.size else math.nan
