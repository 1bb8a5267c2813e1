"""Who is where: poses of a clip's target, of what hides it and of bystanders, in every frame.

Lengths are in frame heights, x to the right and y down. A clip has six slots; a slot's picture covers the unit square
around the origin of its own coordinates, and its matrix maps these to the frame. All clips of a batch are laid out at
once, but each draws from random streams of its own, so that a clip does not depend on its batch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Literal, Self, get_args

import numpy as np

from amodal_diffusion.synthetic.composites.cutouts import CutoutSet
from amodal_diffusion.synthetic.rng import Float64, Rng
from amodal_diffusion.types import BoolArray

Mode = Literal["open", "gone", "paced", "border", "crossing"]
"""What hides the target: nothing; all of it for up to half the clip; an occluder that moves with it, so that no frame
shows what it hides; the frame's border or a margin around it; occluders that cross it."""
MODES: tuple[Mode, ...] = get_args(Mode)
MODE_SHARES = (0.20, 0.16, 0.22, 0.12, 0.30)
SLOTS = 6
TARGET = 2
"""Slots 0 and 1 are behind the target, 3 to 5 in front of it; of an open clip all others are behind."""
_FRONT = SLOTS - TARGET - 1
_DRAWS = 640  # uniform numbers of a layout; the layout asks for fewer
_CROSSERS = ("limb", "pole", "foliage", "fence", "person", "thing")
_CROSSER_SHARES = (0.22, 0.13, 0.14, 0.13, 0.15, 0.23)
_STEADY = ("pole", "foliage", "fence", "cover")  # belong to the scene: they hardly move on their own


class Draws:
    """Uniform numbers of several clips: each call takes the next columns of all rows.

    Args:
        rows: entropy of each row's stream, see :class:`~amodal_diffusion.synthetic.rng.Rng`.
    """

    def __init__(self, rows: Sequence[tuple[int, ...]]) -> None:
        self._values = np.stack([Rng(*row).array(_DRAWS, 0.0, 1.0) for row in rows])
        self._next = 0

    def uniform(self, low: float, high: float, *shape: int) -> Float64:
        """Values in ``[low, high)``, ``[N, *shape]``."""
        count = math.prod(shape)
        taken = self._values[:, self._next : self._next + count]
        self._next += count
        return low + (high - low) * taken.reshape(len(taken), *shape)

    def chance(self, probability: float, *shape: int) -> np.ndarray:
        """True with the given probability, bool ``[N, *shape]``."""
        return self.uniform(0.0, 1.0, *shape) < probability

    def sign(self, *shape: int) -> Float64:
        """-1.0 or 1.0, ``[N, *shape]``."""
        return np.where(self.chance(0.5, *shape), 1.0, -1.0)

    def index(self, weights: Sequence[float] | Float64, *shape: int) -> np.ndarray:
        """Indices drawn with the given weights, int64 ``[N, *shape]``."""
        edges = np.cumsum(np.asarray(weights, dtype=np.float64))
        return np.minimum(np.searchsorted(edges / edges[-1], self.uniform(0, 1, *shape), side="right"), len(edges) - 1)

    def wave(self, amplitude: Float64, clock: Float64) -> Float64:
        """Sines over the clip, ``[..., T]``, of the given amplitudes ``[...]``, with random pace and phase."""
        shape = amplitude.shape[1:]
        pace, phase = self.uniform(0.4, 2.0, *shape), self.uniform(0.0, 2 * math.pi, *shape)
        return amplitude[..., None] * np.sin(2 * math.pi * pace[..., None] * clock + phase[..., None])


@dataclass(frozen=True)
class Layout:
    """N clips of T frames, K slots each, painted in the order of the slots.

    Attributes:
        mode: index into `MODES`, ``[N]``.
        aspect: width of the frame over its height.
        cutout: index of each slot's cut-out, ``[N, K]``.
        used: whether the slot shows anything, ``[N, K]``.
        front: whether it is in front of the target, ``[N, K]``.
        picture: index of its picture, ``[N, K, T]``.
        center: ``[N, K, T, 2]``.
        matrix: the unit square's axes in the frame, ``[N, K, T, 2, 2]``.
        pan: shift of the background by the camera, ``[N, T, 2]``.
        sway: amplitude, waves a frame height, phase and pace of the target's bending, ``[N, 2, 4]``.
        inner: left, top, right and bottom of the frame within its margin; the whole frame if there is none, ``[N, 4]``.
    """

    mode: np.ndarray
    aspect: float
    cutout: np.ndarray
    used: np.ndarray
    front: np.ndarray
    picture: np.ndarray
    center: Float64
    matrix: Float64
    pan: Float64
    sway: Float64
    inner: Float64

    def rows(self, chosen: np.ndarray) -> Self:
        """The clips with these indices."""
        parts = {f.name: getattr(self, f.name)[chosen] for f in fields(self) if f.name != "aspect"}
        return replace(self, **parts)


def draw_modes(seeds: Sequence[tuple[int, ...]]) -> np.ndarray:
    """The mode of each clip, from a stream that no rejected layout touches, so that the shares hold."""
    edges = np.cumsum(MODE_SHARES)
    return np.array([int(np.searchsorted(edges[:-1], Rng(*seed, 0).uniform(0, 1), side="right")) for seed in seeds])


def draw_layouts(
    cutouts: CutoutSet, draws: Draws, modes: np.ndarray, *, frames: int, aspect: float, target: TargetPath | None = None
) -> Layout:
    """Lay out clips.

    Args:
        cutouts: what can be shown; each clip chooses from them by role.
        draws: one row a clip.
        modes: index into `MODES` of each clip.
        frames: T.
        aspect: width of a frame over its height.
        target: where the targets are; drawn by default.
    """
    clock = (np.arange(frames) + 0.5) / frames
    is_mode = {mode: modes == number for number, mode in enumerate(MODES)}
    role, item = _choose(cutouts, draws, is_mode)
    extent = cutouts.extent[item]  # [N, K, 2]
    if target is None:
        target = _draw_target(draws, role, extent[:, TARGET], is_mode, clock=clock, aspect=aspect)
    facing = np.array([cutout.facing for cutout in cutouts.cutouts])[item]
    center, matrix, used = _draw_others(draws, role, extent, target, is_mode, clock=clock, aspect=aspect)
    center[:, TARGET], matrix[:, TARGET] = target.center, target.matrix
    matrix = _mirrored(draws, matrix, center, facing)
    _attach(draws, center, matrix, target, is_mode["paced"], clock)
    pan = (clock - 0.5)[:, None] * draws.uniform(-0.5, 0.5, 2)[:, None] * np.array([1.0, 0.3])
    pan = pan * draws.chance(0.35)[:, None, None]
    parallax = np.array([0.8, 0.9, 1.0, 1.1, 1.1, 1.1])[:, None, None] * np.ones((len(modes), 1, 1, 1))
    parallax[is_mode["paced"]] = 1.0
    front = np.broadcast_to(np.arange(SLOTS) > TARGET, used.shape) & ~is_mode["open"][:, None]
    layout = Layout(
        mode=modes,
        aspect=aspect,
        cutout=item,
        used=used,
        front=front & used,
        picture=_pictures(cutouts, draws, item, clock),
        center=center + parallax * pan[:, None],
        matrix=matrix,
        pan=0.8 * pan,
        sway=_draw_sway(draws, target.size),
        inner=_draw_inner(draws, is_mode["border"] & target.on_margin, aspect),
    )
    return _target_last(layout, is_mode["open"])


@dataclass(frozen=True)
class TargetPath:
    """Where the targets of N clips are.

    Attributes:
        size: longer side of the content in the middle of the clip, ``[N]``.
        extent: width and height of the content over the side of its square, ``[N, 2]``.
        center: ``[N, T, 2]``.
        matrix: see :class:`Layout`, ``[N, T, 2, 2]``.
        meet: when a cover hides it, in clips, ``[N]``.
        cover: width of that cover, ``[N]``.
        reach: what the cover moves in the clip, ``[N, 2]``.
        on_margin: whether it is at a margin inside the frame, not at the frame's border, bool ``[N]``.
    """

    size: Float64
    extent: Float64
    center: Float64
    matrix: Float64
    meet: Float64
    cover: Float64
    reach: Float64
    on_margin: np.ndarray


def _choose(cutouts: CutoutSet, draws: Draws, is_mode: dict[Mode, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Role and cut-out of each slot, ``[N, K]``; every slot has both, whether it is used or not."""
    rows = len(is_mode["open"])
    role = np.empty((rows, SLOTS), dtype=object)
    role[:, :TARGET] = np.array(["thing", "person", "foliage", "cover"])[draws.index((0.6, 0.2, 0.1, 0.1), TARGET)]
    role[:, TARGET] = np.array(["thing", "person", "holed"])[draws.index((0.58, 0.30, 0.12))]
    role[:, TARGET + 1 :] = np.array(_CROSSERS)[draws.index(_CROSSER_SHARES, _FRONT)]
    role[is_mode["gone"], TARGET + 1] = "cover"
    keeper = np.array(["thing", "cover", "limb", "person", "foliage"])[draws.index((0.45, 0.2, 0.15, 0.1, 0.1))]
    role[:, TARGET + 1] = np.where(is_mode["paced"], keeper, role[:, TARGET + 1])
    at = draws.uniform(0.0, 1.0, SLOTS)
    item = np.zeros((rows, SLOTS), dtype=np.int64)
    weights = np.array([cutout.weight for cutout in cutouts.cutouts])
    known = np.array(cutouts.roles)
    for name in np.unique(role.astype(str)):
        some = np.flatnonzero(known == name)
        some = some if len(some) else np.flatnonzero(known == "thing")  # a folder without people shows things
        edges = np.cumsum(weights[some])
        here = role == name
        item[here] = some[np.minimum(np.searchsorted(edges / edges[-1], at[here], side="right"), len(some) - 1)]
    return role, item


def _draw_target(
    draws: Draws, role: np.ndarray, extent: Float64, is_mode: dict[Mode, np.ndarray], *, clock: Float64, aspect: float
) -> TargetPath:
    size = draws.uniform(0.2, 0.85) * np.minimum(1.0, 0.75 + 0.25 * aspect)
    upright = (role[:, TARGET] == "person") | draws.chance(0.7)
    meet = draws.uniform(0.35, 0.65)
    where = draws.uniform(0.2, 0.8, 2) * np.array([aspect, 1.0])
    velocity = _velocity(draws, slow=0.45)
    cover, reach = _draw_cover(draws, size, extent)
    passes = draws.chance(0.5)  # it passes behind a cover that stands, or a cover passes before it
    gone = is_mode["gone"]
    velocity = np.where((gone & passes)[:, None], reach, np.where(gone[:, None], 0.3 * velocity, velocity))
    reach = np.where(passes[:, None], 0.0, reach + velocity)
    # Near a border of the frame, or near one of a margin that outpainting adds inside the canvas.
    on_margin = draws.chance(0.5)
    inset = np.where(on_margin, 0.16, 0.0) + draws.uniform(-0.2, 0.3) * size
    near = draws.index((0.35, 0.35, 0.1, 0.2))
    x = np.choose(near, [inset, aspect - inset, where[:, 0], where[:, 0]])
    y = np.choose(near, [where[:, 1], where[:, 1], inset, 1 - inset])
    where = np.where(is_mode["border"][:, None], np.stack([x, y], -1), where)
    velocity = np.where(is_mode["border"][:, None], 0.3 * velocity, velocity)
    lapse = clock[None] - meet[:, None]
    bend = draws.uniform(-0.6, 0.6, 2) * (draws.chance(0.4) & ~gone)[:, None]
    center = where[:, None] + velocity[:, None] * lapse[..., None] + 0.5 * bend[:, None] * lapse[..., None] ** 2
    center = center + draws.wave(draws.uniform(0.0, 0.04, 2) * draws.chance(0.5)[:, None], clock).swapaxes(1, 2)
    growth = np.exp(draws.uniform(-0.5, 0.5) * (draws.chance(0.5) & ~gone))[:, None] ** (clock - 0.5)
    spin = (
        draws.uniform(-math.pi, math.pi)[:, None]
        + (draws.sign() * draws.uniform(0, 3) * draws.chance(0.55))[:, None] * clock
    )
    lean = draws.uniform(-0.15, 0.15)[:, None] + draws.wave(draws.uniform(0.0, 0.12), clock)
    turn = np.where((upright | gone)[:, None], lean, spin)
    narrow = np.exp(draws.uniform(-0.15, 0.15))[:, None] * (
        1 - draws.wave(draws.uniform(0, 0.2) * draws.chance(0.2), clock)
    )
    matrix = _matrices(size[:, None] * growth, turn, narrow)
    return TargetPath(size, extent, center, matrix, meet, cover, reach, on_margin)


def _draw_cover(draws: Draws, size: Float64, extent: Float64) -> tuple[Float64, Float64]:
    """Width of a cover, and the path past it on which it hides an object whole for 8 to 50 % of the clip."""
    span, ratio = draws.uniform(0.08, 0.5), draws.uniform(1.35, 2.0)
    cover = size * np.maximum(extent.max(axis=1), 0.5) * ratio
    speed = np.minimum((cover - size * extent[:, 0]) / span, 2.2)
    return cover, speed[:, None] * np.stack([draws.sign(), draws.uniform(-0.1, 0.1)], -1)


def follow_masks(draws: Draws, masks: BoolArray) -> TargetPath:
    """The path of an object of which masks are known, for occluders that are pasted over a real clip.

    Args:
        draws: one row a clip.
        masks: bool ``[N, T, h, w]``, each clip with at least one pixel.
    """
    clips, frames, height, _ = masks.shape
    center, side = np.zeros((clips, frames, 2)), np.zeros((clips, frames, 2))
    for axis, line in enumerate((masks.max(axis=2), masks.max(axis=3))):
        first = line.argmax(axis=2)
        last = line.shape[2] - line[:, :, ::-1].argmax(axis=2)
        center[..., axis], side[..., axis] = (first + last) / (2 * height), (last - first) / height
    there = masks.max(axis=(2, 3))
    for clip in range(clips):  # a frame without the object has its place in the nearest frame
        known = np.flatnonzero(there[clip])
        nearest = known[np.abs(np.arange(frames)[:, None] - known).argmin(axis=1)]
        center[clip], side[clip] = center[clip, nearest], side[clip, nearest]
    middle = np.median(side, axis=1)
    size = middle.max(axis=1)
    extent = middle / size[:, None]
    cover, reach = _draw_cover(draws, size, extent)
    meet = draws.uniform(0.35, 0.65)
    # A cover follows the object's own way and passes it on top of that.
    reach = reach + (center[:, -1] - center[:, 0])
    matrix = side.max(axis=2)[..., None, None] * np.eye(2)
    return TargetPath(size, extent, center, matrix, meet, cover, reach, np.zeros(clips, dtype=np.bool_))


def _draw_others(
    draws: Draws,
    role: np.ndarray,
    extent: Float64,
    target: TargetPath,
    is_mode: dict[Mode, np.ndarray],
    *,
    clock: Float64,
    aspect: float,
) -> tuple[Float64, Float64, np.ndarray]:
    """Centers, matrices and use of all slots; the target's own are filled in later."""
    size = target.size[:, None]
    kind = {name: role == name for name in (*_CROSSERS, "cover")}
    steady = np.isin(role.astype(str), _STEADY)
    own = size * draws.uniform(0.4, 1.5, SLOTS)  # things
    for name, low, high in (("limb", 0.9, 2.4), ("person", 0.8, 1.4)):
        own = np.where(kind[name], size * draws.uniform(low, high, SLOTS), own)
    for name, low, high in (("pole", 0.9, 2.4), ("foliage", 0.5, 1.3), ("fence", 0.8, 2.0)):
        own = np.where(kind[name], draws.uniform(low, high, SLOTS), own)
    behind = np.arange(SLOTS) < TARGET
    own = np.where(behind, draws.uniform(0.2, 1.1, SLOTS), own)
    # Where it meets the target: across its middle, or at its rim.
    angle, away = draws.uniform(0, 2 * math.pi, SLOTS), draws.uniform(0.05, 0.7, SLOTS) * (size + own) / 2
    offset = away[..., None] * np.stack([np.cos(angle), np.sin(angle)], -1)
    across = steady | kind["limb"] | kind["person"]
    offset = np.where(across[..., None], draws.uniform(-0.35, 0.35, SLOTS, 2) * size[..., None], offset)
    frame = np.minimum((draws.uniform(0, 1, SLOTS) * len(clock)).astype(np.int64), len(clock) - 1)
    met = np.take_along_axis(target.center, frame[..., None], axis=1)
    somewhere = draws.uniform(0.0, 1.0, SLOTS, 2) * np.array([aspect, 0.8]) + np.array([0.0, 0.1])
    spot = np.where(behind[:, None], somewhere, met + offset)
    speed = np.where(steady, 0.05, np.where(kind["person"], 1.0, 0.7)) * draws.uniform(0.1, 1.4, SLOTS)
    heading = draws.uniform(-0.3, 0.3, SLOTS) + math.pi * draws.chance(0.5, SLOTS)
    velocity = speed[..., None] * np.stack([np.cos(heading), np.sin(heading)], -1)
    start = clock[frame]
    gone = is_mode["gone"]
    spot[gone, TARGET + 1] = _at(target.center, target.meet, clock)[gone]
    velocity[gone, TARGET + 1], start[gone, TARGET + 1] = target.reach[gone], target.meet[gone]
    lapse = clock - start[..., None]
    center = spot[:, :, None] + velocity[:, :, None] * lapse[..., None]
    # Size of a cover: its picture may not fill its square.
    solid = target.cover[:, None] / extent.min(axis=-1)
    own = np.where(kind["cover"] & ~behind, np.where(gone[:, None], solid, size * draws.uniform(0.5, 1.1, SLOTS)), own)
    lean = draws.uniform(-0.15, 0.15, SLOTS)
    free = draws.uniform(-math.pi, math.pi, SLOTS)
    turn = np.where(kind["limb"] | (kind["thing"] & draws.chance(0.35, SLOTS)), free, lean)[..., None]
    swing = draws.wave(np.where(kind["limb"], draws.uniform(0.0, 0.7, SLOTS) * draws.chance(0.6, SLOTS), 0.0), clock)
    turn = turn + swing + np.where(kind["thing"], draws.uniform(-0.8, 0.8, SLOTS), 0.0)[..., None] * clock
    matrix = _matrices(
        np.repeat(own[..., None], len(clock), -1), turn, np.exp(draws.uniform(-0.15, 0.15, SLOTS))[..., None]
    )
    used = draws.uniform(0, 1, SLOTS) < np.array([0.45, 0.5, 1.0, 1.0, 0.4, 0.2])
    used[:, TARGET + 1] = ~is_mode["border"] | draws.chance(0.4)
    used[gone | is_mode["paced"], TARGET + 2 :] &= draws.chance(0.4, _FRONT - 1)[gone | is_mode["paced"]]
    return center, matrix, used


def _attach(
    draws: Draws, center: Float64, matrix: Float64, target: TargetPath, paced: np.ndarray, clock: Float64
) -> None:
    """Fix the first occluder of some clips to the target, so that it hides the same part in every frame; in place.

    Its pose is constant in the target's coordinates. Some drift by a few percent of the target's size.
    """
    angle, away = draws.uniform(0, 2 * math.pi), draws.uniform(0.0, 0.4) * target.extent.min(axis=1)
    place = (away[:, None] * np.stack([np.cos(angle), np.sin(angle)], -1))[:, None]
    drift = draws.wave(draws.uniform(0.0, 0.04, 2) * draws.chance(0.4)[:, None], clock).swapaxes(1, 2)
    size = draws.uniform(0.35, 0.85) * np.maximum(target.extent.mean(axis=1), 0.3)
    turn = draws.uniform(-0.4, 0.4)
    relative = _matrices(size[:, None], turn[:, None], np.ones((1, 1)))
    moved = target.center + np.einsum("ntij,ntj->nti", matrix[:, TARGET], place + drift)
    center[paced, TARGET + 1] = moved[paced]
    matrix[paced, TARGET + 1] = (matrix[:, TARGET] @ relative)[paced]


def _mirrored(draws: Draws, matrix: Float64, center: Float64, facing: Float64) -> Float64:
    """Mirror pictures at random; what faces a side looks where it goes if it goes sideways."""
    flip = draws.sign(SLOTS)
    travel = center[:, :, -1, 0] - center[:, :, 0, 0]
    aligned = np.where(facing * travel >= 0, 1.0, -1.0)
    flip = np.where((np.abs(facing) > 0.3) & (np.abs(travel) > 0.1), aligned, flip)
    return np.asarray(matrix * np.stack([flip, np.ones_like(flip)], -1)[:, :, None, None])


def _pictures(cutouts: CutoutSet, draws: Draws, item: np.ndarray, clock: Float64) -> np.ndarray:
    """Picture of each slot and frame: people walk in cycles, what was made up sways to and fro."""
    lengths = np.array([max(1, len(c.files)) for c in cutouts.cutouts])
    stops = np.append(cutouts.first[1:], len(cutouts.pixels))
    made = np.array([not cutout.files for cutout in cutouts.cutouts])
    lengths = np.where(made, stops - cutouts.first, lengths)[item][..., None]
    begin, pace = draws.uniform(0, 1, SLOTS)[..., None], draws.uniform(0.6, 2.4, SLOTS)[..., None]
    cycle = np.mod(begin + pace * clock, 1.0)
    to_and_fro = 1 - np.abs(2 * cycle - 1)
    phase = np.where(made[item][..., None], to_and_fro, cycle)
    return cutouts.first[item][..., None] + np.minimum((phase * lengths).astype(np.int64), lengths - 1)


def _draw_sway(draws: Draws, size: Float64) -> Float64:
    """Amplitude (frame heights), waves a frame height, phase, pace (cycles a clip) of two bending waves."""
    amplitude = draws.uniform(0.0, 0.025, 2) * (size * draws.chance(0.4))[:, None]
    waves = draws.uniform(0.3, 0.9, 2) / size[:, None]
    return np.stack([amplitude, waves, draws.uniform(0, 1, 2), draws.uniform(0.3, 2.0, 2)], -1)


def _draw_inner(draws: Draws, on_margin: np.ndarray, aspect: float) -> Float64:
    """What is the frame and what a margin around it: equal margins left and right, above and below."""
    share = draws.uniform(0.08, 0.2)
    inner = np.stack([share * aspect, share, (1 - share) * aspect, 1 - share], -1)
    return np.where(on_margin[:, None], inner, np.array([0.0, 0.0, aspect, 1.0]))


def _target_last(layout: Layout, some: np.ndarray) -> Layout:
    """Move the target of some clips in front of all others."""
    order = np.where(some[:, None], np.array([0, 1, 3, 4, 5, 2]), np.arange(SLOTS))
    rows = np.arange(len(order))[:, None]
    parts = {
        name: getattr(layout, name)[rows, order] for name in ("cutout", "used", "front", "picture", "center", "matrix")
    }
    return replace(layout, **parts)


def target_slots(layout: Layout) -> np.ndarray:
    """The target's slot of each clip, ``[N]``."""
    return np.where(layout.mode == MODES.index("open"), SLOTS - 1, TARGET)


def _velocity(draws: Draws, *, slow: float) -> Float64:
    """Frame heights a clip, ``[N, 2]``: mostly sideways; some clips hardly move."""
    speed = np.where(draws.chance(slow), draws.uniform(0, 0.08), draws.uniform(0.1, 1.2))
    heading = draws.uniform(-0.4, 0.4) + math.pi * draws.chance(0.5)
    return speed[:, None] * np.stack([np.cos(heading), np.sin(heading)], -1)


def _matrices(size: Float64, turn: Float64, narrow: Float64) -> Float64:
    """Scaling, then narrowing along x, then turning: ``[..., 2, 2]``."""
    size, turn, narrow = np.broadcast_arrays(size, turn, narrow)
    cos, sin = np.cos(turn) * size, np.sin(turn) * size
    return np.stack([np.stack([cos * narrow, -sin], -1), np.stack([sin * narrow, cos], -1)], -2)


def _at(path: Float64, time: Float64, clock: Float64) -> Float64:
    """Position of a path ``[N, T, 2]`` at the frame nearest to a time ``[N]``."""
    frame = np.abs(clock[None] - time[:, None]).argmin(axis=1)
    return path[np.arange(len(path)), frame]
