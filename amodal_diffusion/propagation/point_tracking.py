"""Point trackers, frame by frame: constant velocity, and pyramidal Lucas-Kanade around each point."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from skimage.registration import optical_flow_ilk

from amodal_diffusion.types import BoolArray, FloatArray, UInt8Array

Points = npt.NDArray[np.float64]
"""x and y in pixels, ``[N, 2]``."""
LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)


class TrackedPoints(Protocol):
    """Points on their way through a clip."""

    def step(self, frame: UInt8Array) -> tuple[Points, BoolArray]:
        """Go on to the next frame.

        Args:
            frame: uint8 ``[H, W, 3]``.

        Returns:
            the points, float64 ``[N, 2]``, NaN where a point is lost; and whether each is seen, bool ``[N]``.
        """
        ...


class PointTracker(Protocol):
    """Follows points from one frame to later ones; sees no frame before its time."""

    def begin(self, frame: UInt8Array, points: Points, *, velocity: Points) -> TrackedPoints:
        """Start at a frame.

        Args:
            frame: uint8 ``[H, W, 3]``.
            points: x and y in this frame, float64 ``[N, 2]``.
            velocity: pixels per frame along x and y that the object has moved with so far, float64 ``[2]``; a tracker
                that looks at the frames may ignore it.
        """
        ...


class ConstantVelocity:
    """Moves all points as the object has moved so far; looks at no frame."""

    def begin(self, frame: UInt8Array, points: Points, *, velocity: Points) -> TrackedPoints:
        """See `PointTracker`."""
        del frame
        return _Moving(points, velocity)


class _Moving:
    def __init__(self, points: Points, velocity: Points) -> None:
        self._points, self._velocity = points, velocity

    def step(self, frame: UInt8Array) -> tuple[Points, BoolArray]:
        del frame
        self._points = self._points + self._velocity
        return self._points, np.ones(len(self._points), dtype=np.bool_)


@dataclass(frozen=True)
class LucasKanade:
    """Pyramidal Lucas-Kanade (scikit-image's iterative one) in a window around each point.

    It follows what is seen at the point: a point that something covers stays with what covers it.

    Attributes:
        reach: pixels from the point to each side of the window; a step of up to about a third of it is found.
        radius: pixels from a pixel to each side of the patch that is compared.
    """

    reach: int = 48
    radius: int = 7

    def begin(self, frame: UInt8Array, points: Points, *, velocity: Points) -> TrackedPoints:
        """See `PointTracker`."""
        del velocity
        return _Followed(self, _gray(frame), points)


class _Followed:
    def __init__(self, tracker: LucasKanade, gray: FloatArray, points: Points) -> None:
        self._tracker, self._gray, self._points = tracker, gray, points

    def step(self, frame: UInt8Array) -> tuple[Points, BoolArray]:
        gray = _gray(frame)
        self._points = np.stack([self._follow(gray, point) for point in self._points])
        self._gray = gray
        height, width = gray.shape
        x, y = self._points.T
        return self._points, np.asarray((x >= 0) & (y >= 0) & (x <= width - 1) & (y <= height - 1))

    def _follow(self, gray: FloatArray, point: Points) -> Points:
        """Where the point of the previous frame is in this one; a point outside of the frame stays where it is."""
        height, width = gray.shape
        if not (np.isfinite(point).all() and 0 <= point[0] <= width - 1 and 0 <= point[1] <= height - 1):
            return point
        reach = self._tracker.reach
        column, row = (round(float(value)) for value in point)
        window = (slice(max(0, row - reach), row + reach + 1), slice(max(0, column - reach), column + reach + 1))
        before, after = self._gray[window], gray[window]
        if min(before.shape) < 3:
            return point  # nothing to compare
        down, right = optical_flow_ilk(before, after, radius=self._tracker.radius)  # type: ignore[no-untyped-call]
        place = [[point[1] - window[0].start], [point[0] - window[1].start]]
        move = [float(ndimage.map_coordinates(flow, place, order=1, mode="nearest")[0]) for flow in (right, down)]
        return np.asarray(point + move)


def _gray(frame: UInt8Array) -> FloatArray:
    return np.asarray(frame.astype(np.float32) @ (LUMA / 255), dtype=np.float32)
