"""From seeds to clips: layouts that do what they were drawn for, composited with their truth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from amodal_diffusion.basics import InputError
from amodal_diffusion.synthetic.composites import compositing
from amodal_diffusion.synthetic.composites.compositing import DEPTH_BITS, MARGIN_GRAY, Plan, Sheets
from amodal_diffusion.synthetic.composites.cutouts import SIDE, CompositeSplit, CutoutSet
from amodal_diffusion.synthetic.composites.poses import (
    MODES,
    SLOTS,
    Draws,
    Layout,
    Mode,
    draw_layouts,
    draw_modes,
    follow_masks,
    target_slots,
)
from amodal_diffusion.synthetic.composites.tool_errors import ErrorShares, estimated, segmented
from amodal_diffusion.synthetic.rng import Float64, Rng
from amodal_diffusion.types import BoolArray

SPLIT_KEYS: dict[CompositeSplit, int] = {"train": 1800, "validation": 1801, "test-v2": 1802}
_ATTEMPTS = 8
_TRIAL_HEIGHT = 32
_FITS = 2.0
_LOOK_STREAM, _NOISE_STREAM, _MASK_STREAM, _DEPTH_STREAM = 100, 101, 102, 103
_NOISE_SIDES = (4, 8, 16, 32, 64, 128)
_TO_YIQ = np.array([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])


@dataclass(frozen=True)
class CompositeRecord:
    """What a clip was made from.

    Attributes:
        seed: number of the clip in its split.
        mode: what hides the target.
        sources: role, name and SHA-256 of each cut-out that it uses, the target first unless that is from a real clip.
    """

    seed: int
    mode: Mode
    sources: tuple[tuple[str, str, str], ...]


@dataclass(frozen=True)
class CompositeBatch:
    """Clips with their truth.

    Attributes:
        rgb: uint8 ``[N, F, 3, H, W]``.
        modal: visible masks, perhaps with errors, bool ``[N, F, H, W]``.
        amodal: whole masks inside the frame, bool ``[N, F, H, W]``; contain `modal`.
        whole_rgb: the whole object on white, uint8 ``[N, F, 3, H, W]``.
        depth: nearer is larger, perhaps with errors, float32 ``[N, F, H, W]``.
        true_depth: float32 ``[N, F, H, W]`` in [0, 1], nearer is larger.
        records: what each clip was made from.
    """

    rgb: Tensor
    modal: Tensor
    amodal: Tensor
    whole_rgb: Tensor
    depth: Tensor
    true_depth: Tensor
    records: tuple[CompositeRecord, ...]


@dataclass(frozen=True)
class WholeClips:
    """Real clips of objects that nothing hides.

    Attributes:
        rgb: uint8 ``[N, F, 3, H, W]``.
        masks: of the objects, bool ``[N, F, H, W]``, each clip with at least one pixel.
        depth: any scale, nearer is larger, float32 ``[N, F, H, W]``; zeros if it is unknown.
    """

    rgb: Tensor
    masks: Tensor
    depth: Tensor


@dataclass(frozen=True)
class _Under:
    """What the slots are laid over: integers as in `compositing`."""

    rgb: Tensor
    depth: Tensor
    amodal: Tensor
    whole: Tensor


class Composer:
    """Makes the clips of a split; a clip depends on its seed, the split, the cut-outs and the size alone.

    Args:
        cutouts: what the clips show.
        split: part of the entropy of all random streams.
        frames: F.
        height: H.
        width: W.
        device: where clips are composited; layouts are drawn on the host.
        errors: shares of the clips whose masks and depth have errors.

    Raises:
        InputError: if a size is too small to show anything.
    """

    def __init__(
        self,
        cutouts: CutoutSet,
        split: CompositeSplit,
        *,
        frames: int,
        height: int,
        width: int,
        device: torch.device | str = "cpu",
        errors: ErrorShares | None = None,
    ) -> None:
        for name, value, least in (("frames", frames, 2), ("height", height, 16), ("width", width, 16)):
            if value < least:
                raise InputError(f"{name}: expected at least {least}, got {value}")
        self.cutouts, self.split = cutouts, split
        self.frames, self.height, self.width = frames, height, width
        self.device = torch.device(device)
        self.errors = errors or ErrorShares()
        self._pixels, self._small = cutouts.pixels.to(self.device), cutouts.small.to(self.device)

    @torch.no_grad()
    def __call__(self, seeds: Sequence[int]) -> CompositeBatch:
        """Make the clips with these seeds, all at once."""
        layout, _ = self.layout(seeds)
        look = _Look(self._entropy(seeds), layout, self.cutouts, self.height, self.device)
        plan = Plan.of(layout, height=self.height, width=self.width, side=SIDE, device=self.device)
        rgb = compositing.paint_background(plan, layout, look.noise, look.colors)
        depth = look.background_depth(self.width).expand(-1, self.frames, -1, -1)
        amodal = torch.zeros(depth.shape, dtype=torch.bool, device=self.device)
        return self._composited(seeds, layout, look, plan, _Under(rgb, depth, amodal, torch.zeros_like(rgb)))

    @torch.no_grad()
    def paste(self, clips: WholeClips, seeds: Sequence[int]) -> CompositeBatch:
        """Paste occluders over whole objects of real clips, whose masks and colors under the paste stay known.

        Nothing is pasted over a fifth of the clips.

        Args:
            clips: N clips of the composer's size, with an object that nothing hides.
            seeds: one a clip.

        Returns:
            the clips; their depth is that of `clips` scaled to the farther 40 % of [0, 1], with the occluders nearer.
        """
        entropy = self._entropy(seeds)
        modes = draw_modes(entropy)
        modes[modes == MODES.index("border")] = MODES.index("crossing")
        layout, _ = self._choose_layout(entropy, modes, clips.masks)
        layout = replace(layout, used=layout.front, pan=np.zeros_like(layout.pan))
        look = _Look(entropy, layout, self.cutouts, self.height, self.device)
        look.shape[..., 0] = round(0.42 * 2**DEPTH_BITS) + look.shape[..., 0] // 2
        plan = Plan.of(layout, height=self.height, width=self.width, side=SIDE, device=self.device)
        low, high = clips.depth.amin(dim=(1, 2, 3), keepdim=True), clips.depth.amax(dim=(1, 2, 3), keepdim=True)
        depth = (clips.depth - low) / (high - low).clamp(min=1e-6) * (0.4 * 2**DEPTH_BITS)
        rgb = clips.rgb.to(self.device).float()
        under = _Under(rgb, depth.to(self.device, torch.int32), clips.masks.to(self.device), rgb)
        return self._composited(seeds, layout, look, plan, under)

    def _composited(
        self, seeds: Sequence[int], layout: Layout, look: _Look, plan: Plan, under: _Under
    ) -> CompositeBatch:
        """Lay all slots over what is under them."""
        target = target_slots(layout)
        rgb, depth, amodal, whole = under.rgb, under.depth, under.amodal, under.whole
        hidden = torch.zeros_like(amodal)
        for layer in compositing.layers(plan, layout, self._sheets(layout, look)):
            rgb = compositing.blend(rgb, layer.rgba)
            depth = torch.where(layer.solid, compositing.relief(layer, look.shape[:, layer.slot]), depth)
            is_target, is_front = self._rows(target == layer.slot), self._rows(layout.front[:, layer.slot])
            amodal = amodal | (layer.solid & is_target)
            hidden = hidden | (layer.solid & is_front)
            whole = torch.where(is_target[:, :, None], layer.rgba[:, :, :3], whole)
        inside = plan.inside()
        rgb = look.exposed(rgb).where(inside[:, :, None], MARGIN_GRAY)
        nearest = depth.amax(dim=(1, 2, 3), keepdim=True) + compositing.MARGIN_NEARER
        true_depth = torch.where(inside, depth, nearest).float() / 2.0**DEPTH_BITS
        modal = amodal & ~hidden & inside
        return self._with_errors(seeds, layout, rgb, (modal, amodal, hidden), look.exposed(whole), true_depth)

    def layout(self, seeds: Sequence[int]) -> tuple[Layout, BoolArray]:
        """For each seed the first of several layouts that hides the target as the clip's mode says.

        Returns:
            the layouts, and whether each does, bool ``[N]``: if none of the trials did, it is the best of them.
        """
        entropy = self._entropy(seeds)
        return self._choose_layout(entropy, draw_modes(entropy), None)

    def _choose_layout(
        self, entropy: list[tuple[int, ...]], modes: np.ndarray, whole: Tensor | None
    ) -> tuple[Layout, BoolArray]:
        """Try layouts at a small size; `whole` has the masks of objects that are there already."""
        draws = Draws([(*seed, 1 + attempt) for seed in entropy for attempt in range(_ATTEMPTS)])
        modes, aspect = np.repeat(modes, _ATTEMPTS), self.width / self.height
        small = (_TRIAL_HEIGHT, max(8, round(_TRIAL_HEIGHT * aspect)))
        target = None
        if whole is not None:
            whole = (F.adaptive_avg_pool2d(whole.float(), small) >= 0.5).repeat_interleave(_ATTEMPTS, dim=0)
            target = follow_masks(draws, whole.cpu().numpy())
        tried = draw_layouts(self.cutouts, draws, modes, frames=self.frames, aspect=aspect, target=target)
        plan = Plan.of(tried, height=small[0], width=small[1], side=self._small.shape[-1], device=self.device)
        unique, index = np.unique(tried.picture, return_inverse=True)
        pictures = self._small[torch.from_numpy(unique).to(self.device)].float()
        amodal, hidden = compositing.masks(plan, tried, Sheets(pictures, index.reshape(tried.picture.shape)))
        amodal = amodal if whole is None else whole.to(self.device)
        score = fitness((amodal & ~hidden).cpu().numpy(), amodal.cpu().numpy(), modes).reshape(len(entropy), _ATTEMPTS)
        chosen = score.argmax(axis=1) + _ATTEMPTS * np.arange(len(entropy))
        return tried.rows(chosen), score.max(axis=1) == _FITS

    def _entropy(self, seeds: Sequence[int]) -> list[tuple[int, ...]]:
        return [(SPLIT_KEYS[self.split], seed) for seed in seeds]

    def _rows(self, some: BoolArray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(some)).to(self.device)[:, None, None, None]

    def _sheets(self, layout: Layout, look: _Look) -> Sheets:
        """Each picture of each slot once, tinted as the slot and smoothed as its size asks for."""
        clips, slots, frames = layout.picture.shape
        owner = np.arange(clips * slots).reshape(clips, slots, 1)
        keys, index = np.unique(owner * len(self._pixels) + layout.picture, return_inverse=True)
        owner, picture = keys // len(self._pixels), keys % len(self._pixels)
        rows = torch.from_numpy(owner).to(self.device)
        pictures = self._pixels[torch.from_numpy(picture).to(self.device)].float()
        pictures = compositing.tinted(pictures, look.tint.flatten(0, 1)[rows], look.light.flatten(0, 1)[rows])
        level = compositing.levels_of(layout, self.height).ravel()[owner]
        for number in np.unique(level[level > 0]):
            some = torch.from_numpy(np.flatnonzero(level == number)).to(self.device)
            pictures[some] = compositing.smaller(pictures[some], int(number))
        return Sheets(pictures, index.reshape(clips, slots, frames))

    def _with_errors(
        self,
        seeds: Sequence[int],
        layout: Layout,
        rgb: Tensor,
        found: tuple[Tensor, Tensor, Tensor],
        whole: Tensor,
        true_depth: Tensor,
    ) -> CompositeBatch:
        """Add the errors of tools; what a mask wrongly shows belongs to the object from then on, with its colors."""
        modal, amodal, hidden = found
        depth, entropy = true_depth, self._entropy(seeds)
        rows, rngs = _chosen(entropy, _MASK_STREAM, self.errors.masks)
        if rngs:
            modal = modal.index_copy(0, rows.to(self.device), segmented(modal[rows], hidden[rows], rngs))
            wrong = modal & ~amodal
            amodal = amodal | wrong
            whole = torch.where(wrong[:, :, None], rgb, whole)
        rows, rngs = _chosen(entropy, _DEPTH_STREAM, self.errors.depth)
        if rngs:
            depth = depth.index_copy(0, rows.to(self.device), estimated(depth[rows], rngs))
        return CompositeBatch(
            rgb=rgb.to(torch.uint8),
            modal=modal,
            amodal=amodal,
            whole_rgb=whole.clamp(max=compositing.BRIGHTEST).where(amodal[:, :, None], 255.0).to(torch.uint8),
            depth=depth,
            true_depth=true_depth,
            records=tuple(self._record(seed, layout, row) for row, seed in enumerate(seeds)),
        )

    def _record(self, seed: int, layout: Layout, row: int) -> CompositeRecord:
        target = int(target_slots(layout)[row])
        slots = [k for k in (target, *(k for k in range(SLOTS) if k != target)) if layout.used[row, k]]
        items = [int(layout.cutout[row, k]) for k in slots]
        cutouts, roles = self.cutouts.cutouts, self.cutouts.roles
        sources = tuple((roles[i], f"{cutouts[i].source}: {cutouts[i].name}", cutouts[i].sha256) for i in items)
        return CompositeRecord(seed, MODES[int(layout.mode[row])], sources)


def _chosen(entropy: list[tuple[int, ...]], stream: int, share: float) -> tuple[Tensor, list[Rng]]:
    """Rows of a share of the clips, and their random streams."""
    rngs = [Rng(*seed, stream) for seed in entropy] if share else []
    rows = [row for row, rng in enumerate(rngs) if rng.chance(share)]
    return torch.tensor(rows, dtype=torch.long), [rngs[row] for row in rows]


def fitness(modal: BoolArray, amodal: BoolArray, modes: np.ndarray) -> Float64:
    """How well masks do what their mode says: 2 if they do, else below 1.

    Args:
        modal: bool ``[N, F, h, w]``.
        amodal: likewise.
        modes: index into `MODES` of each.

    Returns:
        ``[N]``.
    """
    area, seen = amodal.sum(axis=(2, 3)), modal.sum(axis=(2, 3))
    frames, pixels = area.shape[1], amodal[0, 0].size
    there = area > 0
    share = np.where(there, 1 - seen / np.maximum(area, 1), 0.0)
    mean = share.sum(axis=1) / np.maximum(there.sum(axis=1), 1)
    least = np.where(there, share, 1.0).min(axis=1)
    gone = (there & (seen == 0)).sum(axis=1)
    edge = amodal.max(axis=3)[:, :, [0, -1]].any(axis=2) | amodal.max(axis=2)[:, :, [0, -1]].any(axis=2)
    placed = ((area > 0.006 * pixels).mean(axis=1) >= 0.6) & (seen.max(axis=1) > 0.004 * pixels)
    placed &= seen.max(axis=1) >= 0.25 * area.max(axis=1)
    good = {
        "open": seen.sum(axis=1) == area.sum(axis=1),
        "gone": (gone >= 1) & (gone <= frames / 2) & ((there & (share < 0.6)).mean(axis=1) >= 0.25),
        "paced": (least >= 0.08) & (share.max(axis=1) <= 0.75) & (there.mean(axis=1) > 0.9),
        "border": (mean <= 0.8) & ((mean >= 0.05) | (edge.mean(axis=1) >= 0.3)),
        "crossing": (mean >= 0.05) & (mean <= 0.75) & (share.max(axis=1) >= 0.15) & (gone <= frames / 4),
    }
    fits = np.choose(modes, [good[mode] for mode in MODES])
    shown = np.minimum(seen.max(axis=1) / pixels, 0.4)
    hides = np.where(modes == MODES.index("open"), 0.0, 0.3 * (mean > 0.05))
    return np.where(fits & placed, _FITS, shown + hides + 0.2 * placed)


class _Look:
    """Colors, light and depth of a batch, drawn on the host.

    Attributes:
        tint: see `compositing.tinted`, ``[N, K, 3, 4]``.
        light: likewise, ``[N, K, 2]``.
        noise: see `compositing.paint_background`.
        colors: likewise.
        shape: see `compositing.relief`, int32 ``[N, K, 4]``.
    """

    def __init__(
        self, entropy: list[tuple[int, ...]], layout: Layout, cutouts: CutoutSet, height: int, device: torch.device
    ) -> None:
        draws = Draws([(*seed, _LOOK_STREAM) for seed in entropy])
        self.device = device
        person = (np.array(cutouts.roles) == "person")[layout.cutout]
        self.tint = self._integers(_draw_tints(draws, person) * 128).float()
        self.light = self._integers(draws.uniform(-90, 90, SLOTS, 2) * draws.chance(0.7, SLOTS)[..., None]).float()
        colors = draws.uniform(20, 235, 2, 1, 1) + draws.uniform(-60, 60, 2, 2, 3)
        self.colors = self._integers(np.clip(colors, 4, 250)).float()
        frames = layout.picture.shape[2]
        clock = (np.arange(frames) + 0.5) / frames
        self._gain = self._integers(256 * (1 + draws.wave(draws.uniform(0, 0.08) * draws.chance(0.5), clock))).float()
        self.shape = self._integers(_draw_shapes(draws))
        far, near, bend = draws.uniform(0.08, 0.2), draws.uniform(0.25, 0.5), draws.uniform(0.7, 2.0)
        rows = ((np.arange(height) + 0.5) / height) ** bend[:, None]
        self._rows = self._integers((far[:, None] + (near - far)[:, None] * rows) * 2.0**DEPTH_BITS)
        self._lean = self._integers(draws.uniform(-0.1, 0.1) * 2.0**DEPTH_BITS / (2 * height))
        rngs = [Rng(*seed, _NOISE_STREAM) for seed in entropy]
        self.noise = [
            self._integers(np.stack([np.floor(rng.array((2, side, side), 0, 256)) for rng in rngs])).float()
            for side in _NOISE_SIDES
        ]

    def background_depth(self, width: int) -> Tensor:
        """Depth of the background, times 2^16, int32 ``[N, 1, H, W]``: a floor that comes nearer downward."""
        columns = torch.arange(width, device=self.device, dtype=torch.int32) - width // 2
        return (self._rows[:, :, None] + self._lean[:, None, None] * columns)[:, None]

    def exposed(self, rgb: Tensor) -> Tensor:
        """Brighten and darken frames a little, integers ``[N, T, 3, H, W]``."""
        return torch.floor(rgb * self._gain[:, :, None, None, None] / 256 + 0.5).clamp(0, 255)

    def _integers(self, values: Float64) -> Tensor:
        return torch.from_numpy(np.rint(values).astype(np.int32)).to(self.device)


def _draw_tints(draws: Draws, person: np.ndarray) -> Float64:
    """Hue, saturation, brightness and contrast of each slot as a matrix; people keep their hue, ``[N, K, 3, 4]``."""
    hue = draws.uniform(-0.5, 0.5, SLOTS) * draws.chance(0.5, SLOTS)
    hue = np.where(person, 0.0, np.where(draws.chance(0.3, SLOTS), draws.uniform(-math.pi, math.pi, SLOTS), hue))
    saturation = np.exp(draws.uniform(-0.5, 0.4, SLOTS)) * ~(draws.chance(0.05, SLOTS) & ~person)
    cos, sin = np.cos(hue) * saturation, np.sin(hue) * saturation
    one, zero = np.ones_like(cos), np.zeros_like(cos)
    rotation = np.stack([np.stack(row, -1) for row in ((one, zero, zero), (zero, cos, -sin), (zero, sin, cos))], -2)
    gain, contrast = np.exp(draws.uniform(-0.5, 0.15, SLOTS)), np.exp(draws.uniform(-0.3, 0.2, SLOTS))
    mixed = np.linalg.inv(_TO_YIQ) @ rotation @ _TO_YIQ * (gain * contrast)[..., None, None]
    offset = (128 * (1 - contrast) * gain)[..., None, None] * np.ones((3, 1))
    return np.concatenate([mixed, offset], axis=-1)


def _draw_shapes(draws: Draws) -> Float64:
    """Base, slopes and dome of each slot's depth, times 2^16, in the order of the slots, ``[N, K, 4]``."""
    gaps = draws.uniform(0.2, 1.0, SLOTS + 1)
    start = draws.uniform(0.25, 0.4)[:, None]
    room = 0.97 - start
    base = start + room * np.cumsum(gaps, axis=1)[:, :-1] / gaps.sum(axis=1, keepdims=True)
    band = 0.32 * room * np.minimum(gaps[:, :-1], gaps[:, 1:]) / gaps.sum(axis=1, keepdims=True)
    slopes = draws.uniform(-0.5, 0.5, SLOTS, 2) * band[..., None]
    dome = draws.uniform(0.0, 0.4, SLOTS) * band
    return np.concatenate([base[..., None], slopes, dome[..., None]], axis=-1) * 2.0**DEPTH_BITS
