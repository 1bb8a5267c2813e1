"""Several predictions of one track: the best one, all of them pooled, their mean, and their agreement."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import fields

import numpy as np

from amodal_diffusion.metrics.protocols import FrameScores, TrackScores, track_of
from amodal_diffusion.types import BoolArray, FloatArray


def best_sample(samples: Sequence[TrackScores]) -> int:
    """Which of k predictions of a track is best: the one with the largest mIoU, the first of equals.

    One prediction is chosen for the whole track and for every measure, as a person would who sees all k.

    Args:
        samples: scores of the k predictions, at least one.
    """
    return max(range(len(samples)), key=lambda k: -math.inf if math.isnan(samples[k].miou) else samples[k].miou)


def joined_samples(samples: Sequence[TrackScores]) -> TrackScores:
    """All frames of k predictions of a track as if they were one long track: their means are means over the k.

    Args:
        samples: scores of the k predictions, at least one.
    """
    return track_of(
        FrameScores(
            **{
                entry.name: np.concatenate([getattr(sample.frames, entry.name) for sample in samples])
                for entry in fields(FrameScores)
            }
        )
    )


def probability_map(samples: Sequence[BoolArray]) -> FloatArray:
    """Share of k predictions that have a pixel, float32 ``[F, H, W]``.

    Args:
        samples: bool ``[F, H, W]`` each, at least one.
    """
    return np.asarray(np.mean(np.stack(samples), axis=0, dtype=np.float32))


class Agreement:
    """Agreement of k predictions of a track with each other, pooled frame by frame."""

    def __init__(self, count: int) -> None:
        """Start with no frames.

        Args:
            count: number of predictions.
        """
        self._common = np.zeros((count, count))
        self._areas = np.zeros(count)

    def add(self, samples: BoolArray) -> None:
        """Take in frames, bool ``[k, ...]``."""
        flat = samples.reshape(len(samples), -1).astype(np.float32)
        self._common += flat @ flat.T
        self._areas += flat.sum(axis=1)

    def result(self) -> list[float]:
        """Mean IoU of each prediction with the others, all frames taken as one mask; 1 where there is one only."""
        either = self._areas[:, None] + self._areas - self._common
        iou = np.divide(self._common, either, out=np.ones_like(either), where=either > 0)
        others = len(iou) - 1
        return [1.0] if not others else ((iou.sum(axis=1) - 1) / others).tolist()
