"""Pictures to frames, in arithmetic that is exact, so that the same layout gives the same bytes everywhere.

Poses become integers once, on the host. From there on every value is an integer, or a multiple of a power of two with
fewer bits than float32 has: coordinates are multiples of 1/64 of a picture's pixel, pictures are squares whose side is
a power of two, so `grid_sample` interpolates without rounding, and blending divides by powers of two alone. Neither the
device, the number of threads, the order of additions nor the other clips of a batch change a bit.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from amodal_diffusion.synthetic.composites.cutouts import SIDE
from amodal_diffusion.synthetic.composites.poses import SLOTS, Layout, target_slots
from amodal_diffusion.synthetic.rng import Float64

_MATRIX_BITS = 12  # of a picture's pixel, in matrices and offsets
_STEP_BITS = 4  # of half a pixel of the frame, in what bends the target
_GRID_BITS = 6  # of a picture's pixel, in coordinates
BACKGROUND_SIDE = 256
_SPREAD = 3.2  # frame heights that a background's side covers; it is mirrored beyond
DEPTH_BITS = 16
_SOLID = 128
MARGIN_GRAY = 64
"""Gray of a margin, as `completion.canvas` fills it."""
MARGIN_NEARER = 1 << (DEPTH_BITS - 6)
BRIGHTEST = 247
"""Largest value of an object's color, so that it differs from the white around it."""


@dataclass(frozen=True)
class Plan:
    """A layout as integers for frames of H x W, on a device; all tensors are int32.

    Attributes:
        matrix: picture's pixels per half pixel of the frame, times 2^12, ``[N, K, T, 2, 2]``.
        offset: picture coordinate of the frame's corner, times 2^12, ``[N, K, T, 2]``.
        sway: what bends the target, in 1/16 of half pixels: shifts along x of each row, ``[N, T, H]``, and along y of
            each column, ``[N, T, W]``.
        inner: left, top, right and bottom of the frame in its margin, pixels, ``[N, 4]``.
    """

    matrix: Tensor
    offset: Tensor
    sway: tuple[Tensor, Tensor]
    inner: Tensor
    height: int
    width: int

    @classmethod
    def of(cls, layout: Layout, *, height: int, width: int, side: int, device: torch.device) -> Plan:
        """Round a layout's poses.

        Args:
            layout: the poses.
            height: H.
            width: W.
            side: pixels of the pictures' sides.
            device: of the result.
        """
        inverse = np.linalg.inv(layout.matrix) * side  # frame heights to a picture's pixels
        offset = side / 2 - np.einsum("nktij,nktj->nkti", inverse, layout.center)
        most = 6000.0 * side / SIDE  # pixels; so far away, the picture is out of sight
        return cls(
            matrix=_integers(inverse / (2 * height), _MATRIX_BITS, device),
            offset=_integers(np.clip(offset, -most, most), _MATRIX_BITS, device),
            sway=_bending(layout, height, width, device),
            inner=_integers(layout.inner * height, 0, device),
            height=height,
            width=width,
        )

    def coordinates(self, slot: int, sways: np.ndarray) -> tuple[Tensor, Tensor]:
        """Where a slot's picture is seen at each pixel, in 1/64 of its pixels from its corner, ``[N, T, H, W]``.

        Args:
            slot: number of the slot.
            sways: which clips bend the slot's picture, bool ``[N]``.
        """
        device = self.matrix.device
        x = (2 * torch.arange(self.width, device=device, dtype=torch.int32) + 1) << _STEP_BITS
        y = (2 * torch.arange(self.height, device=device, dtype=torch.int32) + 1) << _STEP_BITS
        x, y = x[None, None, None, :], y[None, None, :, None]
        if sways.any():
            on = torch.from_numpy(sways).to(device, torch.int32)[:, None, None]
            x = x + (on * self.sway[0])[..., :, None]
            y = y + (on * self.sway[1])[..., None, :]
        matrix, offset = self.matrix[:, slot, :, :, :, None, None], self.offset[:, slot, :, :, None, None]
        drop = _STEP_BITS + _MATRIX_BITS - _GRID_BITS
        u, v = (
            ((matrix[:, :, k, 0] * x + matrix[:, :, k, 1] * y) + (offset[:, :, k] << _STEP_BITS) + (1 << (drop - 1)))
            >> drop
            for k in (0, 1)
        )
        return u, v

    def inside(self) -> Tensor:
        """Pixels of the frame that are not margin, bool ``[N, 1, H, W]``."""
        device = self.inner.device
        columns, rows = torch.arange(self.width, device=device), torch.arange(self.height, device=device)[:, None]
        left, top, right, bottom = (self.inner[:, k, None, None] for k in range(4))
        return ((columns >= left) & (columns < right) & (rows >= top) & (rows < bottom))[:, None]


def _integers(values: Float64, bits: int, device: torch.device) -> Tensor:
    return torch.from_numpy(np.rint(values * 2.0**bits).astype(np.int32)).to(device)


def _bending(layout: Layout, height: int, width: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Shifts of rows and columns by two waves that stay with the target's center."""
    slots = target_slots(layout)
    center = layout.center[np.arange(len(slots)), slots]  # [N, T, 2]
    clock = (np.arange(center.shape[1]) + 0.5) / center.shape[1]
    tables = []
    for axis, (size, other) in enumerate(((height, 1), (width, 0))):
        amplitude, waves, phase, pace = (layout.sway[:, axis, k, None, None] for k in range(4))
        at = (np.arange(size) + 0.5) / height - center[..., other, None]  # [N, T, size]
        swell = np.sin(2 * np.pi * (pace * clock[:, None] + phase))
        tables.append(
            _integers(amplitude * 2 * height * swell * np.sin(2 * np.pi * (waves * at + phase)), _STEP_BITS, device)
        )
    return tables[0], tables[1]


def sample(pictures: Tensor, u: Tensor, v: Tensor) -> Tensor:
    """Interpolate pictures at integer coordinates, exactly, and round to integers.

    Args:
        pictures: integers in float32, ``[B, C, S, S]`` with S a power of two.
        u: column in 1/64 of a pixel from the picture's corner, int32 ``[B, h, w]``.
        v: row, likewise.

    Returns:
        integers in float32, ``[B, C, h, w]``; pixels outside repeat the border.
    """
    side = pictures.shape[-1]
    most = 2 * side << _GRID_BITS
    # -1 and 1 are the picture's borders: c / 64 pixels from the corner are c / (32 S) - 1, exact in float32.
    grid = torch.stack([u, v], dim=-1).clamp(-most, most).float() * (2.0 / (side << _GRID_BITS)) - 1.0
    values = F.grid_sample(pictures, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return torch.floor(values + 0.5)


def smaller(pictures: Tensor, level: int) -> Tensor:
    """Smooth pictures that are shown at less than half (level 1) or a quarter (2) of their size, against aliasing."""
    for step in range(level):
        for dim in (2, 3):
            pad = (0, 0, 1 << step, 1 << step) if dim == 2 else (1 << step, 1 << step, 0, 0)
            wide = F.pad(pictures, pad, mode="replicate")
            size, shift = pictures.shape[dim], 1 << step
            first, middle, last = (wide.narrow(dim, k * shift, size) for k in range(3))
            pictures = (first + 2 * middle + last) / 4
        pictures = torch.floor(pictures + 0.5)
    # Sampling repeats the border, which must stay transparent.
    pictures[:, 3:] = F.pad(pictures[:, 3:, 1:-1, 1:-1], (1, 1, 1, 1))
    return pictures


def levels_of(layout: Layout, height: int) -> np.ndarray:
    """How much each slot's picture is reduced, for `smaller`, ``[N, K]``."""
    size = np.sqrt(np.abs(np.linalg.det(layout.matrix))).mean(axis=2) * height / SIDE  # frame's pixels per picture's
    return np.where(size < 0.22, 2, np.where(size < 0.55, 1, 0))


def tinted(pictures: Tensor, tint: Tensor, light: Tensor) -> Tensor:
    """Colors of pictures through a matrix and a light that falls from a side.

    Args:
        pictures: integers in float32, ``[B, 4, S, S]``.
        tint: times 128, integers in float32, ``[B, 3, 4]``: three weights and an offset.
        light: change of brightness over the picture's width and height, times 256, ``[B, 2]``, likewise.
    """
    rgb, side = pictures[:, :3], pictures.shape[-1]
    mixed = [
        sum((tint[:, k, j, None, None] * rgb[:, j] for j in range(3)), tint[:, k, 3, None, None]) for k in range(3)
    ]
    colors = torch.floor(torch.stack(mixed, dim=1) / 128 + 0.5).clamp(0, 255)
    line = torch.arange(side, device=rgb.device) - side // 2
    across = torch.floor((light[:, 0, None, None] * line + light[:, 1, None, None] * line[:, None]) / side)
    colors = torch.floor(colors * (256 + across[:, None]) / 256 + 0.5).clamp(0, BRIGHTEST)
    return torch.cat([colors, pictures[:, 3:]], dim=1)


def paint_background(plan: Plan, layout: Layout, noise: list[Tensor], colors: Tensor) -> Tensor:
    """Two smooth patterns that meet at a horizon, seen through the camera's pan; integers ``[N, T, 3, H, W]``.

    Args:
        plan: gives the frame's size.
        layout: gives the pan.
        noise: integers 0 to 255 in float32, ``[N, 2, s, s]`` for sides s that double.
        colors: of above and below, two each, integers in float32, ``[N, 2, 2, 3]``.
    """
    scales = [F.interpolate(n, scale_factor=BACKGROUND_SIDE // n.shape[-1], mode="bilinear") for n in noise]
    pattern = torch.stack([torch.floor(scale) for scale in scales])
    weights = (8, 6, 5, 5, 4, 4)
    share = sum((w * p for w, p in zip(weights, pattern, strict=True)), torch.zeros_like(pattern[0])) / sum(weights)
    share = torch.floor((torch.floor(share) - 128) * 2 + 128).clamp(0, 255)[:, :, None]  # [N, 2, 1, S, S]
    first, second = colors[:, :, 0, :, None, None], colors[:, :, 1, :, None, None]
    both = torch.floor((first * (255 - share) + second * share) / 256)
    # The horizon of the noise's coarsest scale: a line that is not straight.
    horizon = torch.floor(scales[0][:, :1, 128:129]) / 4 + colors[:, :1, 1, :1, None] / 4 + 64
    rows = torch.arange(BACKGROUND_SIDE, device=share.device)[:, None]
    texture = torch.where(rows > horizon[:, 0][:, None], both[:, 1], both[:, 0])  # [N, 3, S, S]
    pan = (layout.pan + np.array([0.6, 1.1])) * (BACKGROUND_SIDE << _GRID_BITS) / _SPREAD
    shift = _integers(pan, 0, rows.device)[..., None, None]  # [N, T, 2, 1, 1]
    scale = int(np.rint((BACKGROUND_SIDE << _GRID_BITS) / _SPREAD / (2 * plan.height)))
    x = (2 * torch.arange(plan.width, device=rows.device, dtype=torch.int32) + 1) * scale
    y = ((2 * torch.arange(plan.height, device=rows.device, dtype=torch.int32) + 1) * scale)[:, None]
    u, v = (_mirror(a - shift[:, :, k]) for k, a in ((0, x), (1, y)))
    u, v = torch.broadcast_tensors(u, v)
    clips, frames = shift.shape[:2]
    flat = (t.reshape(clips, frames * plan.height, plan.width) for t in (u, v))
    seen = sample(texture, *flat).reshape(clips, 3, frames, plan.height, plan.width)
    return seen.transpose(1, 2)


def _mirror(at: Tensor) -> Tensor:
    """Repeat coordinates forward and backward."""
    period = BACKGROUND_SIDE << _GRID_BITS
    return period - ((at % (2 * period)) - period).abs()


@dataclass(frozen=True)
class Sheets:
    """The pictures of a batch, tinted and smoothed.

    Attributes:
        pictures: integers in float32, ``[P, 4, S, S]``.
        index: which of them each slot shows, int64 ``[N, K, T]``.
    """

    pictures: Tensor
    index: np.ndarray

    def of(self, slot: int) -> tuple[Tensor, int]:
        """Pictures of a slot, ``[N * each, 4, S, S]``, and how many a clip has: T, or 1 if none of them changes."""
        index = self.index[:, slot]
        same = (index == index[:, :1]).all()
        chosen = index[:, :1] if same else index
        return self.pictures[torch.from_numpy(chosen.ravel()).to(self.pictures.device)], chosen.shape[1]


@dataclass(frozen=True)
class Layer:
    """A slot in all frames.

    Attributes:
        slot: number of the slot.
        rgba: integers in float32, ``[N, T, C, H, W]``.
        u: columns, see :meth:`Plan.coordinates`, ``[N, T, H, W]``.
        v: rows, likewise.
        solid: where its alpha is at least one half, bool ``[N, T, H, W]``.
    """

    slot: int
    rgba: Tensor
    u: Tensor
    v: Tensor
    solid: Tensor


def layers(plan: Plan, layout: Layout, sheets: Sheets) -> Iterator[Layer]:
    """Sample the slots, farthest first; those that no clip uses are left out."""
    target = target_slots(layout)
    clips, frames = layout.picture.shape[0], layout.picture.shape[2]
    for slot in range(SLOTS):
        if not layout.used[:, slot].any():
            continue
        u, v = plan.coordinates(slot, target == slot)
        pictures, each = sheets.of(slot)
        shape = (clips * each, frames // each * plan.height, plan.width)
        seen = sample(pictures, u.reshape(shape), v.reshape(shape))
        seen = seen.reshape(clips, each, -1, frames // each, plan.height, plan.width).transpose(2, 3).flatten(1, 2)
        used = torch.from_numpy(layout.used[:, slot]).to(seen.device)[:, None, None, None]
        rgba = torch.cat([seen[:, :, :-1], seen[:, :, -1:] * used[:, None]], dim=2)
        yield Layer(slot, rgba, u, v, rgba[:, :, -1] >= _SOLID)


def masks(plan: Plan, layout: Layout, sheets: Sheets) -> tuple[Tensor, Tensor]:
    """Whole target and what is in front of it, margins included, bool ``[N, T, H, W]`` each."""
    target, front = target_slots(layout), layout.front
    shape = (len(target), layout.picture.shape[2], plan.height, plan.width)
    amodal = torch.zeros(shape, dtype=torch.bool, device=plan.matrix.device)
    hidden = (~plan.inside()).expand(shape).clone()
    for layer in layers(plan, layout, sheets):
        amodal |= layer.solid & _rows(target == layer.slot, layer.solid)
        hidden |= layer.solid & _rows(front[:, layer.slot], layer.solid)
    return amodal, hidden


def _rows(some: np.ndarray, like: Tensor) -> Tensor:
    return torch.from_numpy(some).to(like.device)[:, None, None, None]


def blend(under: Tensor, rgba: Tensor) -> Tensor:
    """Lay a layer over integers ``[N, T, 3, H, W]``; alpha 255 counts as 256 of 256."""
    alpha = rgba[:, :, 3:]
    alpha = alpha + torch.floor(alpha / 128)
    return torch.floor((rgba[:, :, :3] * alpha + under * (256 - alpha) + 128) / 256)


def relief(layer: Layer, shape: Tensor) -> Tensor:
    """Depth of a slot's surface, times 2^16, int32 ``[N, T, H, W]``: a tilted and domed picture.

    Args:
        layer: gives the coordinates.
        shape: base, slope along x, slope along y, dome, times 2^16, int32 ``[N, 4]``.
    """
    half = (SIDE << _GRID_BITS) // 2
    x, y = (t.clamp(0, 2 * half) - half for t in (layer.u, layer.v))  # 13 bits and a sign
    base, along, down, dome = (shape[:, k, None, None, None] for k in range(4))
    round_ = (half * half - x * x - y * y) >> 12  # 12 bits and a sign
    return base + ((along * x + down * y) >> 12) + ((dome * round_) >> 12)
