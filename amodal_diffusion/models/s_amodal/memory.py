"""Point memory: where an object was last seen, how it moved, and where its mask is while it is hidden."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from amodal_diffusion.frames.boxes import tight_box
from amodal_diffusion.models.s_amodal.config import SAModalSampling
from amodal_diffusion.propagation.point_tracking import Points, PointTracker, TrackedPoints
from amodal_diffusion.types import BoolArray, FloatArray, UInt8Array

T = TypeVar("T", bound=np.generic)
RECENT = 8
"""Number of steps between visible frames whose median is the object's velocity."""


@dataclass(frozen=True)
class Seen:
    """An object in a frame that shows a part of it.

    Attributes:
        rgb: frame, uint8 ``[H, W, 3]``.
        points: prompt points, x and y in pixels, float64 ``[N, 2]``.
        mask: amodal mask, bool ``[H, W]``.
        probability: of the amodal mask, float32 ``[H, W]``.
        score: predicted IoU of the mask, in [0, 1].
    """

    rgb: UInt8Array
    points: Points
    mask: BoolArray
    probability: FloatArray
    score: float


class _Motion:
    """Steps per frame between places of an object; the places are not kept."""

    def __init__(self) -> None:
        self._last: tuple[int, Points] | None = None
        self._total, self._count = np.zeros(2), 0
        self._recent: deque[Points] = deque(maxlen=RECENT)

    def add(self, time: int, place: Points) -> None:
        if self._last is not None:
            step = (place - self._last[1]) / (time - self._last[0])
            self._total += abs(step)
            self._count += 1
            self._recent.append(step)
        self._last = (time, place)

    @property
    def velocity(self) -> Points:
        """Median of the recent steps, float64 ``[2]``; 0 before the first."""
        return np.asarray(np.median(self._recent, axis=0)) if self._recent else np.zeros(2)

    @property
    def mean_step(self) -> Points | None:
        """Mean magnitude of all steps along x and y, float64 ``[2]``; None before the first."""
        return self._total / self._count if self._count else None


class PointMemory:
    """State of one object's track; every frame is given once, in order, by `see` or `hide`.

    Args:
        sampling: clamp of the displacement, and when an object has left the frame.
        tracker: finds the stored points in the frames that hide the object.
    """

    def __init__(self, sampling: SAModalSampling, tracker: PointTracker) -> None:
        self.sampling, self.tracker = sampling, tracker
        self.vanished = False
        self._time = -1
        self._seen: Seen | None = None
        self._seen_at = 0
        self._track: TrackedPoints | None = None
        self._previous: tuple[BoolArray, Points] | None = None  # mask and points of the previous frame
        self._centroids, self._points = _Motion(), _Motion()

    def see(self, seen: Seen) -> None:
        """Store a frame that shows a part of the object, which forgets all but its motion."""
        self._time += 1
        rows, columns = np.nonzero(seen.mask)
        middle = seen.points.mean(axis=0)
        self._centroids.add(self._time, np.array([columns.mean(), rows.mean()]) if len(rows) else middle)
        self._points.add(self._time, middle)
        self._seen, self._seen_at, self._track = seen, self._time, None
        self._previous = (seen.mask, seen.points)
        self.vanished = False

    def hide(self, rgb: UInt8Array) -> Seen | None:
        """Where a frame hides the object: its last seen mask, moved by the mean displacement of its points.

        Args:
            rgb: frame, uint8 ``[H, W, 3]``.

        Returns:
            the object as it is believed to be in this frame; None if it was never seen or has left the frame.
        """
        self._time += 1
        if self._seen is None or self._previous is None:
            return None
        self.vanished = self.vanished or (self.sampling.vanish and self._at_border(*self._previous))
        if self.vanished:
            return None
        if self._track is None:
            self._track = self.tracker.begin(self._seen.rgb, self._seen.points, velocity=self._centroids.velocity)
        found, _ = self._track.step(rgb)
        known = np.isfinite(found).all(axis=1)
        if known.any():
            moved = (found - self._seen.points)[known].mean(axis=0)
        else:  # the tracker has lost all points
            moved = self._centroids.velocity * (self._time - self._seen_at)
        right, down = (int(value) for value in np.rint(self._clamped(moved)))
        mask = translate(self._seen.mask, right, down)
        points = self._seen.points + np.array([right, down], dtype=np.float64)
        self._previous = (mask, points)
        return Seen(rgb, points, mask, translate(self._seen.probability, right, down), self._seen.score)

    def _clamped(self, moved: Points) -> Points:
        """Limit a displacement along each axis to the mean step so far times the number of hidden frames."""
        if self.sampling.clamp == "none":
            return np.clip(moved, -1e6, 1e6)
        motion = self._centroids if self.sampling.clamp == "centroids" else self._points
        if motion.mean_step is None:
            return np.clip(moved, -1e6, 1e6)
        most = motion.mean_step * (self._time - self._seen_at)
        return np.asarray(np.clip(moved, -most, most))

    def _at_border(self, mask: BoolArray, points: Points) -> bool:
        """Whether the box of a mask, or one of its points, lies beside a border that objects leave the frame by."""
        height, width = mask.shape
        margin = self.sampling.vanish_margin * width
        box = tight_box(mask)
        axes = ((0, width), (1, height)) if self.sampling.vanish_vertical else ((0, width),)
        for axis, side in axes:
            places = [*points[:, axis], *points[:, axis] + 1]
            if box is not None:
                places += [box[1 - axis], box[3 - axis]]  # boxes are y0, x0, y1, x1
            if min(places) <= margin or max(places) >= side - margin:
                return True
        return False


def translate(values: npt.NDArray[T], right: int, down: int) -> npt.NDArray[T]:
    """Move a mask or map, ``[H, W]``, by whole pixels; what enters is 0."""
    height, width = values.shape
    moved = np.zeros_like(values)
    if abs(right) >= width or abs(down) >= height:
        return moved
    moved[max(0, down) : height + min(0, down), max(0, right) : width + min(0, right)] = values[
        max(0, -down) : height - max(0, down), max(0, -right) : width - max(0, right)
    ]
    return moved
