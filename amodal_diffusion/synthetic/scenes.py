"""Scenes: generated clips with complete ground truth, one per split and seed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from amodal_diffusion.basics import InputError
from amodal_diffusion.synthetic import render
from amodal_diffusion.synthetic.catalogue import CATALOGUES, SPLITS, Split
from amodal_diffusion.synthetic.layout import Actor, Layout, Mode, draw_layout, draw_mode
from amodal_diffusion.synthetic.motion import clock_of
from amodal_diffusion.synthetic.rng import Rng
from amodal_diffusion.types import BoolArray, FloatArray, UInt8Array

FPS = 8.0
MAX_ATTEMPTS = 30
MODE_STREAM, LAYOUT_STREAM, DEPTH_STREAM, COLOR_STREAM = range(4)


@dataclass(frozen=True)
class SceneTrack:
    """One object of a scene.

    Attributes:
        track_id: from 1, the target first.
        modal: modal (visible) masks, bool ``[F, H, W]``.
        amodal: amodal masks, clipped to the frame, bool ``[F, H, W]``; contain `modal`.
        rgb: complete object on white, uint8 ``[F, H, W, 3]``; None without RGB.
    """

    track_id: int
    modal: BoolArray
    amodal: BoolArray
    rgb: UInt8Array | None


@dataclass(frozen=True)
class Scene:
    """A clip with complete ground truth.

    Attributes:
        name: split and seed.
        split: split whose families the scene uses.
        seed: number of the scene; seed, split and size determine the scene.
        fps: frames per second.
        rgb: frames, uint8 ``[F, H, W, 3]``; None without RGB.
        depth: relative depth, float32 ``[F, H, W]``, nearer is larger.
        tracks: all objects: first the target, then the others from far to near.
    """

    name: str
    split: Split
    seed: int
    fps: float
    rgb: UInt8Array | None
    depth: FloatArray
    tracks: tuple[SceneTrack, ...]

    @property
    def target(self) -> SceneTrack:
        """The object of interest."""
        return self.tracks[0]


def make_scene(
    seed: int, *, split: Split, frames: int = 25, height: int = 64, width: int = 128, with_rgb: bool = True
) -> Scene:
    """Make a scene; the same arguments give the same scene on every machine.

    Args:
        seed: number of the scene in its split, from 0.
        split: ``train``, ``validation`` or ``test-v1``; no shape or texture family occurs in two splits.
        frames: number of frames F.
        height: H in pixels.
        width: W in pixels.
        with_rgb: whether to render RGB; masks and depth are the same either way.

    Raises:
        InputError: if the split is unknown, the seed is negative or a size is not positive.
        RuntimeError: if no layout shows the target at this size, which happens only in tiny frames.
    """
    if split not in SPLITS:
        raise InputError(f"split: expected one of {', '.join(SPLITS)}, got {split!r}")
    for name, value, least in (("seed", seed, 0), ("frames", frames, 1), ("height", height, 1), ("width", width, 1)):
        if value < least:
            raise InputError(f"{name}: expected an integer of at least {least}, got {value}")
    catalogue = CATALOGUES[split]
    actors, wholes, target = _settled(seed, split=split, frames=frames, height=height, width=width)
    visible = render.visible_masks(wholes)
    depth = render.paint_depth(Rng(catalogue.key, seed, DEPTH_STREAM), actors, visible)
    rgb: UInt8Array | None = None
    paints: list[UInt8Array] = []
    if with_rgb:
        rng = Rng(catalogue.key, seed, COLOR_STREAM)
        background = render.paint_background(rng, catalogue.textures, height=height, width=width)
        rgb = np.repeat(background[None], frames, axis=0)
        paints = [render.paint_whole(rng, a, m, catalogue.textures) for a, m in zip(actors, wholes, strict=True)]
        for paint, mask in zip(paints, visible, strict=True):
            rgb[mask] = paint[mask]
    order = [target, *(k for k in range(len(actors)) if k != target)]
    tracks = tuple(
        SceneTrack(i + 1, visible[k], wholes[k], paints[k] if with_rgb else None) for i, k in enumerate(order)
    )
    return Scene(scene_name(split, seed), split, seed, FPS, rgb, depth, tracks)


def scene_name(split: Split, seed: int) -> str:
    """Name of a scene: split and seed."""
    return f"{split}-{seed:06d}"


def _settled(
    seed: int, *, split: Split, frames: int, height: int, width: int
) -> tuple[list[Actor], list[BoolArray], int]:
    """Draw layouts until one fits the occlusion mode.

    Returns:
        actors and amodal masks, both from far to near, and the index of the target.
    """
    catalogue = CATALOGUES[split]
    clock = clock_of(frames)
    mode = draw_mode(Rng(catalogue.key, seed, MODE_STREAM))
    for attempt in range(2 * MAX_ATTEMPTS):
        if attempt == MAX_ATTEMPTS:
            mode = "open"  # always possible: `_opened` moves occluders behind the target
        rng = Rng(catalogue.key, seed, LAYOUT_STREAM, attempt)
        layout = draw_layout(rng, catalogue, mode=mode, clock=clock, aspect=width / height)
        whole = render.whole_mask(layout.target, height=height, width=width)
        if not _well_placed(whole):
            continue
        front = [render.whole_mask(actor, height=height, width=width) for actor in layout.front]
        if mode == "open":
            layout, front = _opened(layout, whole, front)
        elif not _hidden_as(mode, whole, front):
            continue
        behind = [render.whole_mask(actor, height=height, width=width) for actor in layout.behind]
        return [*layout.behind, layout.target, *layout.front], [*behind, whole, *front], len(behind)
    raise RuntimeError(
        f"scene {split} {seed}: no layout shows its target at {frames} x {height} x {width}; enlarge the frame"
    )


def _well_placed(whole: BoolArray) -> bool:
    """Whether the object covers more than 0.5% of the pixels in at least 60% of the frames."""
    area = whole.sum(axis=(1, 2))
    return bool((area > 0.005 * whole[0].size).mean() >= 0.6)


def _hidden_as(mode: Mode, whole: BoolArray, front: list[BoolArray]) -> bool:
    """Whether the occlusion of the target fits the mode."""
    modal = whole & ~np.logical_or.reduce(front)
    area, seen = whole.sum(axis=(1, 2)), modal.sum(axis=(1, 2))
    there = area > 0
    share = 1 - seen[there] / area[there]
    if mode == "vanish":
        return bool((seen[there] == 0).any() and (share < 0.6).mean() >= 0.25)
    return bool(0.08 <= share.mean() <= 0.8 and (share < 0.85).any())


def _opened(layout: Layout, whole: BoolArray, front: list[BoolArray]) -> tuple[Layout, list[BoolArray]]:
    """Move the objects that overlap the target behind it; the others stay in front."""
    clear = [not (mask & whole).any() for mask in front]
    moved = tuple(actor for actor, free in zip(layout.front, clear, strict=True) if not free)
    stay = tuple(actor for actor, free in zip(layout.front, clear, strict=True) if free)
    kept = [mask for mask, free in zip(front, clear, strict=True) if free]
    return Layout(layout.behind + moved, layout.target, stay), kept
