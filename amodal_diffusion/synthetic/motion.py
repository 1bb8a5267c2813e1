"""Object motion: drift, acceleration, oscillation, rotation and growth.

Scene coordinates: the frame height is 1; x runs right from 0 to the aspect ratio, y runs down from 0 to 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from amodal_diffusion.synthetic.outlines import Part, Parts, swing
from amodal_diffusion.synthetic.rng import Float64, Rng


@dataclass(frozen=True)
class Pose:
    """Placement of a unit-size shape in every frame.

    Attributes:
        center: scene coordinates, float64 ``[F, 2]``.
        size: longer side of the shape's bounding box in frame heights, float64 ``[F]``.
        angle: clockwise rotation in radians, float64 ``[F]``.
        mirror: -1.0 flips the shape horizontally before the rotation, else 1.0.
    """

    center: Float64
    size: Float64
    angle: Float64
    mirror: float = 1.0


def clock_of(frames: int) -> Float64:
    """Time of each frame from 0 (first) to 1 (last), ``[F]``; a single frame has time 0.5."""
    return np.linspace(0.0, 1.0, frames) if frames > 1 else np.asarray([0.5])


def travel(clock: Float64, *, meet: float, where: Float64, velocity: Float64, bend: Float64) -> Float64:
    """Path ``[F, 2]`` that passes ``where`` at time ``meet`` with ``velocity`` and has acceleration ``bend``."""
    lapse = (clock - meet)[:, None]
    return where + velocity * lapse + 0.5 * bend * lapse**2


def draw_velocity(rng: Rng, *, slow: float = 0.3) -> Float64:
    """Velocity in frame heights per clip, ``[2]``: nearly zero with probability ``slow``, else mostly sideways."""
    speed = rng.uniform(0.0, 0.08) if rng.chance(slow) else rng.uniform(0.15, 1.5)
    heading = rng.uniform(-0.5, 0.5) + (math.pi if rng.chance(0.5) else 0.0)
    if rng.chance(0.25):
        heading = rng.angle()
    return np.asarray([speed * math.cos(heading), speed * math.sin(heading)])


def draw_pose(rng: Rng, clock: Float64, *, path: Float64, size: float, upright: bool, lively: bool) -> Pose:
    """Add rotation, growth and oscillation to a path.

    Args:
        rng: source of the draws.
        clock: time of each frame in [0, 1], float64 ``[F]``.
        path: centers in scene coordinates, float64 ``[F, 2]``.
        size: size in the middle of the clip, in frame heights.
        upright: whether the shape only leans a little instead of rotating.
        lively: False for things that stand still in the world, such as fences.
    """
    frames = len(clock)
    mirror = rng.sign()
    angle = np.full(frames, rng.uniform(-0.12, 0.12) if upright else rng.angle())
    if not lively:
        return Pose(path, np.full(frames, size), angle, mirror)
    if upright:
        angle = angle + swing(rng, clock, rng.uniform(0.0, 0.12))
    elif rng.chance(0.55):
        angle = angle + rng.sign() * rng.uniform(0.2, 4.0) * clock + swing(rng, clock, rng.uniform(0.0, 0.3))
    growth = rng.uniform(-0.5, 0.5) if rng.chance(0.5) else 0.0
    bob = np.stack([swing(rng, clock, rng.uniform(0, 0.05)), swing(rng, clock, rng.uniform(0, 0.08))], axis=-1)
    center = path + bob * (1.0 if rng.chance(0.5) else 0.0)
    return Pose(center, size * np.exp(growth * (clock - 0.5)), angle, mirror)


def place(parts: Sequence[Part], pose: Pose, *, height: int) -> Parts:
    """Transform the parts of a unit-size shape to pixel coordinates, ``[F, N, 2]`` each."""
    cos, sin = np.cos(pose.angle)[:, None], np.sin(pose.angle)[:, None]
    placed = []
    for part in parts:
        x, y = pose.mirror * part.points[..., 0], part.points[..., 1]
        turned = np.stack([cos * x - sin * y, sin * x + cos * y], axis=-1)
        pixels = (turned * pose.size[:, None, None] + pose.center[:, None]) * height
        placed.append(replace(part, points=pixels))
    return placed


def unplace(x: Float64, y: Float64, pose: Pose, frame: np.ndarray) -> tuple[Float64, Float64]:
    """Transform scene coordinates of points in given frames to shape coordinates, about -0.5 to 0.5."""
    dx, dy = x - pose.center[frame, 0], y - pose.center[frame, 1]
    cos, sin, size = np.cos(pose.angle)[frame], np.sin(pose.angle)[frame], pose.size[frame]
    return pose.mirror * (cos * dx + sin * dy) / size, (cos * dy - sin * dx) / size
