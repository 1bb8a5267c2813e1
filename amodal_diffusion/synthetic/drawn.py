"""Drawn clips with ground truth, to try the package on: a person, an animal and a thing, each behind something.

Unlike scenes, a drawn clip has no random part, and no split: models neither train nor are tested on it. Lengths are in
units of the frame's height; x goes to the right, y down.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from amodal_diffusion.basics import InputError
from amodal_diffusion.synthetic.outlines import Part, Parts, box, chain, ellipse, moved, polygon, still, walk
from amodal_diffusion.synthetic.render import fill_shape
from amodal_diffusion.synthetic.rng import Float64
from amodal_diffusion.types import BoolArray, FloatArray, UInt8Array

_DOWN, _UP = math.pi / 2, -math.pi / 2
_SMOOTH = 2
"""Colors are drawn at so many times the size and averaged, so that edges are smooth."""
_LIGHT = 0.25
"""How much darker an object is at its foot than at its top."""

Color = tuple[float, float, float]


@dataclass(frozen=True)
class DrawnClip:
    """A drawn clip with complete ground truth.

    Attributes:
        name: of the drawing.
        rgb: frames, uint8 ``[F, H, W, 3]``.
        depth: relative depth, float32 ``[F, H, W]``, nearer is larger.
        modal: visible part of the object, bool ``[F, H, W]``.
        amodal: the whole object, clipped to the frame, bool ``[F, H, W]``; contains `modal`.
        whole_rgb: the whole object on white, uint8 ``[F, H, W, 3]``.
    """

    name: str
    rgb: UInt8Array
    depth: FloatArray
    modal: BoolArray
    amodal: BoolArray
    whole_rgb: UInt8Array


@dataclass(frozen=True)
class _Piece:
    """Parts of one color, in units of the frame's height."""

    parts: Parts
    color: Color


@dataclass(frozen=True)
class _Drawing:
    """Pieces from back to front: those behind the object, the object, and those before it; sky and ground."""

    target: Sequence[_Piece]
    before: Sequence[_Piece]
    behind: Sequence[_Piece]
    sky: Color
    ground: Color
    horizon: float


def draw_clip(name: str, *, frames: int = 16, height: int = 192, width: int = 384) -> DrawnClip:
    """Draw a clip; the same arguments give the same clip.

    Args:
        name: one of `DRAWINGS`.
        frames: number of frames F.
        height: H in pixels.
        width: W in pixels; the drawings are made for twice the height, and narrow frames may not show the object.

    Raises:
        InputError: if there is no such drawing, or a size is not positive.
    """
    if name not in DRAWINGS:
        raise InputError(f"name: expected one of {', '.join(DRAWINGS)}, got {name!r}")
    for what, value in (("frames", frames), ("height", height), ("width", width)):
        if not isinstance(value, int) or value < 1:
            raise InputError(f"{what}: expected an integer of at least 1, got {value}")
    drawing = DRAWINGS[name](np.linspace(0.0, 1.0, frames))

    def mask(pieces: Sequence[_Piece], scale: int = 1) -> BoolArray:
        parts = [Part(part.points * height * scale, part.hole) for piece in pieces for part in piece.parts]
        count = max(len(part.points) for part in parts)  # 1 for what stands still
        parts = [Part(np.repeat(part.points, count // len(part.points), axis=0), part.hole) for part in parts]
        drawn = fill_shape(parts, frames=count, height=height * scale, width=width * scale)
        return np.broadcast_to(drawn, (frames, *drawn.shape[1:]))

    def painted(canvas: FloatArray, pieces: Sequence[_Piece]) -> UInt8Array:
        """The pieces, later ones over earlier ones, on a canvas of `_SMOOTH` times the size."""
        labels: UInt8Array = np.zeros((frames, height * _SMOOTH, width * _SMOOTH), dtype=np.uint8)
        for number, piece in enumerate(pieces):
            labels[mask([piece], _SMOOTH)] = number + 1
        colors = np.asarray([(0.0, 0.0, 0.0), *(piece.color for piece in pieces)], dtype=np.float32)
        light = (1 - _LIGHT * rows).astype(np.float32)[:, None, None]
        video = np.empty((frames, height, width, 3), dtype=np.uint8)
        for frame, label in zip(video, labels, strict=True):
            fine = np.where(label[..., None] > 0, colors[label] * light, canvas)
            blocks = fine.reshape(height, _SMOOTH, width, _SMOOTH, 3)
            frame[:] = (blocks.mean(axis=(1, 3)) * 255).round()
        return video

    rows = (np.arange(height * _SMOOTH) + 0.5) / (height * _SMOOTH)
    scenery = _scenery(drawing, rows, width * _SMOOTH)
    amodal, before, behind = mask(drawing.target), mask(drawing.before), mask(drawing.behind)
    ground = (np.arange(height) + 0.5) / height
    depth = np.empty((frames, height, width), dtype=np.float32)
    depth[:] = np.where(ground < drawing.horizon, 0.05, 0.45 * ground)[:, None]
    for where, nearness in ((behind, 0.3), (amodal, 0.55), (before, 0.85)):
        depth[where] = nearness
    return DrawnClip(
        name,
        rgb=painted(scenery, [*drawing.behind, *drawing.target, *drawing.before]),
        depth=depth,
        modal=amodal & ~before,
        amodal=np.array(amodal),
        whole_rgb=painted(np.ones_like(scenery), drawing.target),
    )


def _scenery(drawing: _Drawing, rows: Float64, width: int) -> FloatArray:
    """Sky, which is brighter towards the horizon, and ground, which is brighter towards the viewer, with furrows."""
    columns = (np.arange(width) + 0.5) / len(rows)
    above = np.asarray(drawing.sky) * (0.8 + 0.25 * rows[:, None] / drawing.horizon)
    below = np.asarray(drawing.ground) * (0.75 + 0.35 * rows[:, None])
    furrows = 0.03 * np.sin(28 * columns[None] + 70 * rows[:, None] ** 2)
    ground = below[:, None] + furrows[..., None]
    sky = np.broadcast_to(above[:, None], ground.shape)
    return np.clip(np.where(rows[:, None, None] < drawing.horizon, sky, ground), 0.0, 1.0).astype(np.float32)


def _shifted(parts: Parts, shift: Float64) -> Parts:
    """Parts moved by ``[F, 2]``."""
    return [Part(part.points + shift[:, None], part.hole) for part in parts]


def _limb(hip: Float64, swing: Float64, bend: Float64, lengths: tuple[float, float], radii: tuple[float, ...]) -> Parts:
    """Two segments that hang from a joint: the upper at ``swing`` from straight down, the lower bent by ``bend``."""
    return chain(walk(hip, [_DOWN + swing, _DOWN + swing + bend], lengths), radii)


def _person(clock: Float64) -> _Drawing:
    """A person in a red shirt who walks past two trees and a bush."""
    step = 2 * math.pi * 2.0 * clock
    path = np.stack([0.45 + 1.05 * clock, 0.56 + 0.012 * np.cos(2 * step)], axis=-1)
    hip, neck = path, path + np.asarray([0.015, -0.24])
    skin, shirt, trousers, shoes, hair = (
        (0.86, 0.66, 0.53), (0.80, 0.20, 0.18), (0.18, 0.24, 0.45), (0.16, 0.13, 0.12), (0.27, 0.17, 0.10),
    )  # fmt: skip
    pieces: list[_Piece] = []
    for side in (math.pi, 0.0):  # the far side first
        shade = 0.8 if side else 1.0

        def shaded(color: Color, by: float = shade) -> Color:
            return (color[0] * by, color[1] * by, color[2] * by)

        swing = -0.5 * np.sin(step + side)
        knee = 0.35 * (1 + np.sin(step + side - 1.0))
        thigh = walk(hip, [_DOWN + swing, _DOWN + swing + knee], [0.165, 0.165])
        foot = walk(thigh[-1], [swing + knee * 0.5], [0.055])
        leg = [
            _Piece(chain(thigh, [0.052, 0.042, 0.03]), shaded(trousers)),
            _Piece(chain(foot, [0.027, 0.02]), shaded(shoes)),
        ]
        arm = walk(neck + np.asarray([0.0, 0.035]), [_DOWN - 0.8 * swing, _DOWN - 0.8 * swing - 0.45], [0.12, 0.115])
        sleeve = [
            _Piece(chain(arm[:2], [0.034, 0.029]), shaded(shirt, shade * 0.9)),
            _Piece(chain(arm[1:], [0.025, 0.021]), shaded(skin)),
        ]
        body = [] if side else [
            _Piece(chain([hip, neck + np.asarray([0.0, 0.03])], [0.058, 0.07]), shirt),
            _Piece(chain([neck, neck + np.asarray([0.012, -0.04])], [0.03, 0.03]), skin),
            _Piece(_shifted([Part(ellipse(0.02, -0.095, 0.052, 0.062))], neck), skin),
            _Piece(_shifted([Part(ellipse(0.0, -0.118, 0.056, 0.048))], neck), hair),
        ]  # fmt: skip
        pieces += [*body, *leg, *sleeve]
    trunk, leaves, hedge = (0.38, 0.27, 0.18), (0.20, 0.42, 0.20), (0.45, 0.60, 0.45)
    bush = ((1.05, 0.9), (1.18, 0.86), (1.28, 0.92))
    before = [
        _Piece([Part(polygon([(0.80, -0.1), (0.90, -0.1), (0.94, 1.0), (0.77, 1.0)]))], trunk),
        _Piece([Part(polygon([(1.38, -0.1), (1.45, -0.1), (1.49, 1.0), (1.35, 1.0)]))], trunk),
        _Piece([Part(ellipse(x, y, 0.13, 0.10)) for x, y in bush], leaves),
    ]
    behind = [_Piece([Part(ellipse(x, 0.5, 0.3, 0.16)) for x in (0.2, 0.75, 1.25, 1.8)], hedge)]
    return _Drawing(pieces, before, behind, sky=(0.70, 0.83, 0.94), ground=(0.55, 0.62, 0.38), horizon=0.52)


def _dog(clock: Float64) -> _Drawing:
    """A brown dog that trots behind a wooden fence."""
    step = 2 * math.pi * 2.5 * clock
    path = np.stack([0.55 + 0.85 * clock, 0.55 + 0.015 * np.sin(2 * step)], axis=-1)
    coat, dark, pale, black = (0.62, 0.42, 0.24), (0.42, 0.27, 0.15), (0.85, 0.72, 0.55), (0.1, 0.08, 0.08)
    rear, chest = path + np.asarray([-0.2, 0.0]), path + np.asarray([0.2, 0.0])
    far: list[_Piece] = []
    near: list[_Piece] = []
    for joint, phase, knee in ((rear, 0.0, 0.4), (chest, math.pi / 2, -0.4)):
        hip = joint + np.asarray([0.0, 0.03])
        for side, group, color in ((math.pi, far, dark), (0.0, near, coat)):
            swing = 0.5 * np.sin(step + phase + side)
            bend = knee * (1 + np.cos(step + phase + side))
            group.append(_Piece(_limb(hip, swing, bend, (0.14, 0.14), (0.055, 0.034, 0.024)), color))
    head = chest + np.asarray([0.17, -0.17])
    wag = 0.4 * np.sin(2 * step)
    tail = walk(rear + np.asarray([-0.06, -0.03]), [_UP - 0.7 + wag, _UP - 0.3 + wag], [0.12, 0.1])
    body = [
        _Piece(chain(tail, [0.03, 0.024, 0.014]), coat),
        _Piece(chain([rear, chest], [0.085, 0.105]), coat),
        _Piece(chain([rear + np.asarray([0.08, 0.06]), chest + np.asarray([0.0, 0.05])], [0.03, 0.055]), pale),
        _Piece(chain([chest, head], [0.085, 0.06]), coat),
        _Piece(chain([head, head + np.asarray([0.12, 0.035])], [0.068, 0.036]), coat),
        _Piece(chain([head + np.asarray([0.135, 0.03]), head + np.asarray([0.145, 0.03])], [0.018, 0.016]), black),
        _Piece(_shifted([Part(ellipse(0.045, -0.02, 0.011, 0.012))], head), black),
        _Piece(chain([head + np.asarray([-0.03, -0.045]), head + np.asarray([-0.06, 0.07])], [0.03, 0.026]), dark),
    ]
    wood, rail = (0.78, 0.70, 0.58), (0.70, 0.61, 0.48)
    post = polygon([(0.0, 0.42), (0.03, 0.37), (0.06, 0.42), (0.06, 0.95), (0.0, 0.95)])
    posts = [Part(moved(post, 0.1 + 0.22 * number, 0.0)) for number in range(9)]
    before = [_Piece([Part(box(-0.1, y, 2.2, y + 0.045)) for y in (0.5, 0.78)], rail), _Piece(posts, wood)]
    behind = [_Piece([Part(ellipse(x, 0.42, 0.35, 0.2)) for x in (0.1, 0.9, 1.7)], (0.33, 0.50, 0.33))]
    whole = [*far, *body, *near]
    return _Drawing(whole, before, behind, sky=(0.80, 0.88, 0.93), ground=(0.42, 0.58, 0.34), horizon=0.46)


def _kettle(clock: Float64) -> _Drawing:
    """A blue kettle on a table; a bottle moves past it, and an apple lies before it."""
    sway = np.stack([1.0 + 0.03 * np.sin(2 * math.pi * clock), np.full_like(clock, 0.56)], axis=-1)
    enamel, rim, handle = (0.22, 0.42, 0.66), (0.87, 0.88, 0.90), (0.20, 0.20, 0.22)
    angles = np.linspace(math.pi, 2 * math.pi, 9)
    arch = [sway + np.asarray([0.2 * math.cos(a), -0.14 + 0.24 * math.sin(a)]) for a in angles]
    spout = walk(sway + np.asarray([0.18, 0.06]), [-0.75, -0.95], [0.14, 0.12])
    body = polygon([(-0.19, -0.16), (0.19, -0.16), (0.27, 0.2), (0.24, 0.25), (-0.24, 0.25), (-0.27, 0.2)])
    pieces = [
        _Piece(chain(arch, [0.026] * len(arch)), handle),
        _Piece(chain(spout, [0.05, 0.035, 0.026]), enamel),
        _Piece(_shifted([Part(body)], sway), enamel),
        _Piece(_shifted([Part(box(-0.2, -0.19, 0.2, -0.15)), Part(ellipse(0, -0.2, 0.035, 0.03))], sway), rim),
        _Piece(_shifted([Part(box(-0.245, 0.12, 0.245, 0.155))], sway), rim),
    ]
    bottle = np.stack([0.45 + 1.0 * clock, np.full_like(clock, 0.62)], axis=-1)
    glass, label = (0.25, 0.45, 0.28), (0.92, 0.86, 0.70)
    right = [(0.03, -0.42), (0.035, -0.22), (0.09, -0.12), (0.09, 0.33)]
    outline = polygon([*right, *((-x, y) for x, y in reversed(right))])
    before = [
        _Piece(_shifted([Part(outline)], bottle), glass),
        _Piece(_shifted([Part(box(-0.09, 0.0, 0.09, 0.18))], bottle), label),
        _Piece([Part(ellipse(1.24, 0.83, 0.14, 0.14))], (0.82, 0.36, 0.22)),
        _Piece(chain([still(1.25, 0.72), still(1.28, 0.65)], [0.012, 0.009]), (0.35, 0.25, 0.15)),
    ]
    behind = [_Piece([Part(box(0.1, 0.05, 0.62, 0.55)), Part(box(1.45, 0.0, 1.9, 0.5))], (0.80, 0.76, 0.70))]
    return _Drawing(pieces, before, behind, sky=(0.88, 0.84, 0.78), ground=(0.60, 0.45, 0.32), horizon=0.66)


DRAWINGS: dict[str, Callable[[Float64], _Drawing]] = {"person": _person, "dog": _dog, "kettle": _kettle}
"""What is drawn, by name."""
