"""All conversions of the range and size of frames: 8-bit, masks and depth to [-1, 1]; letterbox, stretch, resize."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from amodal_diffusion.basics import InputError
from amodal_diffusion.types import BoolArray, FloatArray, UInt8Array

CPU = torch.device("cpu")


def on_device(array: npt.NDArray[Any], device: torch.device = CPU) -> Tensor:
    """An array of any strides as a tensor; on a CPU they may share memory.

    Args:
        array: of a dtype that torch has.
        device: where the tensor goes.
    """
    return torch.from_numpy(np.ascontiguousarray(array)).to(device)


def to_unit(rgb: UInt8Array | Tensor) -> Tensor:
    """Convert 8-bit frames to network input, on the device of a tensor.

    The range follows from the dtype, never from the values: a bright frame is not mistaken for a scaled one.

    Args:
        rgb: uint8 ``[..., F, H, W, 3]``.

    Returns:
        float32 ``[..., F, 3, H, W]`` in [-1, 1].

    Raises:
        InputError: if ``rgb`` is not uint8 with 3 channels last.
    """
    if rgb.dtype not in (np.uint8, torch.uint8) or rgb.ndim < 4 or rgb.shape[-1] != 3:
        raise InputError(f"rgb: expected uint8 [..., F, H, W, 3], got {rgb.dtype} {list(rgb.shape)}")
    channels_last = rgb if isinstance(rgb, Tensor) else on_device(rgb)
    channels_first = channels_last.movedim(-1, -3).contiguous()  # [..., F, 3, H, W]
    return channels_first.to(torch.float32) / 127.5 - 1.0


def to_uint8(video: Tensor) -> UInt8Array:
    """Convert network output to 8-bit frames; the inverse of :func:`to_unit`, with values clipped to [-1, 1].

    Args:
        video: float ``[..., F, 3, H, W]``, range [-1, 1], any device.

    Returns:
        uint8 ``[..., F, H, W, 3]``.

    Raises:
        InputError: if ``video`` is not floating point.
    """
    if not video.is_floating_point():
        raise InputError(f"video: expected floating point in [-1, 1], got {video.dtype}")
    levels = ((video.detach().float().clamp(-1.0, 1.0) + 1.0) * 127.5).round().to(torch.uint8).cpu()
    frames: UInt8Array = levels.movedim(-3, -1).contiguous().numpy()  # [..., F, H, W, 3]
    return frames


def mask_to_unit(mask: BoolArray | Tensor) -> Tensor:
    """Convert masks to network input, on the device of a tensor.

    Args:
        mask: bool ``[..., F, H, W]``.

    Returns:
        float32 ``[..., F, 1, H, W]``, -1 outside and 1 inside.

    Raises:
        InputError: if ``mask`` is not bool.
    """
    if mask.dtype not in (np.bool_, torch.bool) or mask.ndim < 3:
        raise InputError(f"mask: expected bool [..., F, H, W], got {mask.dtype} {list(mask.shape)}")
    inside = mask if isinstance(mask, Tensor) else on_device(mask)
    return inside.float().unsqueeze(-3) * 2.0 - 1.0


def depth_to_unit(depth: FloatArray, *, limits: tuple[float, float] | None = None) -> Tensor:
    """Scale depth in any unit to network input, by its minimum and maximum over the whole clip.

    Args:
        depth: float ``[F, H, W]``, nearer is larger, any scale.
        limits: minimum and maximum of the clip, if ``depth`` is only a part of it; those of ``depth`` by default.

    Returns:
        float32 ``[F, 1, H, W]`` in [-1, 1]; all 0 if the clip's depth is constant.

    Raises:
        InputError: if ``depth`` has another shape, is not floating point or has NaN or infinite values.
    """
    if depth.ndim != 3 or not np.issubdtype(depth.dtype, np.floating):
        raise InputError(f"depth: expected float [F, H, W], got {depth.dtype} {list(depth.shape)}")
    if not np.isfinite(depth).all():
        raise InputError("depth: expected finite values, got NaN or infinity; fill or clip them first")
    values = torch.from_numpy(np.array(depth, dtype=np.float32)).unsqueeze(1)  # [F, 1, H, W]
    low, high = limits if limits is not None else (float(values.min()), float(values.max()))
    if not high > low:
        return torch.zeros_like(values)
    return ((values - low) / (high - low) * 2.0 - 1.0).clamp(-1.0, 1.0)


@dataclass(frozen=True)
class Letterbox:
    """Scale frames to another size with their aspect ratio kept, centered between equal borders.

    Attributes:
        source_hw: height and width of the frames, in pixels.
        target_hw: height and width of the result, in pixels.
        antialias: as for :func:`resize`.

    Raises:
        InputError: if one of the four sizes is below 1.
    """

    source_hw: tuple[int, int]
    target_hw: tuple[int, int]
    antialias: bool = True

    def __post_init__(self) -> None:
        """Reject empty sizes."""
        if min(*self.source_hw, *self.target_hw) < 1:
            raise InputError(f"size: expected at least 1 pixel a side, got {self.source_hw} and {self.target_hw}")

    @property
    def inner_hw(self) -> tuple[int, int]:
        """Height and width in pixels of the scaled frame inside the target."""
        height, width = (
            max(1, min(target, round(source * self.scale)))
            for source, target in zip(self.source_hw, self.target_hw, strict=True)
        )
        return height, width

    @property
    def scale(self) -> float:
        """Target pixels per source pixel along a side."""
        return min(target / source for source, target in zip(self.source_hw, self.target_hw, strict=True))

    @property
    def _top_left(self) -> tuple[int, int]:
        """Row and column of the scaled frame's first pixel inside the target."""
        (height, width), (target_height, target_width) = self.inner_hw, self.target_hw
        return (target_height - height) // 2, (target_width - width) // 2

    def apply(self, frames: Tensor, pad_value: float | Literal["edge"]) -> Tensor:
        """Scale and pad to the target size.

        Args:
            frames: float ``[F, C, H, W]`` at the source size.
            pad_value: value of the borders, or ``"edge"`` to repeat the frame's outermost pixels.

        Returns:
            float ``[F, C, target height, target width]``.

        Raises:
            InputError: if ``frames`` are not at the source size.
        """
        picture = resize(_checked(frames, self.source_hw), self.inner_hw, antialias=self.antialias)
        (top, left), (height, width), (target_height, target_width) = (
            self._top_left,
            self.inner_hw,
            self.target_hw,
        )
        borders = (left, target_width - width - left, top, target_height - height - top)
        if not any(borders):
            return picture
        if pad_value == "edge":
            return functional.pad(picture, borders, mode="replicate")
        return functional.pad(picture, borders, value=pad_value)

    def invert(self, frames: Tensor, *, outside: float) -> Tensor:  # noqa: ARG002 - a letterbox shows the whole frame
        """Remove the borders and scale back to the source size.

        Args:
            frames: float ``[F, C, H, W]`` at the target size.
            outside: unused, because a letterbox shows the whole frame.

        Returns:
            float ``[F, C, source height, source width]``.

        Raises:
            InputError: if ``frames`` are not at the target size.
        """
        (top, left), (height, width) = self._top_left, self.inner_hw
        picture = _checked(frames, self.target_hw)[..., top : top + height, left : left + width]
        return resize(picture, self.source_hw, antialias=self.antialias)


@dataclass(frozen=True)
class Stretch:
    """Scale frames to another size without keeping their aspect ratio, as all scripts of the released code do.

    Attributes:
        source_hw: height and width of the frames, in pixels.
        target_hw: height and width of the result, in pixels.
        antialias: as for :func:`resize`.
    """

    source_hw: tuple[int, int]
    target_hw: tuple[int, int]
    antialias: bool = True

    @property
    def scale(self) -> float:
        """Target pixels per source pixel along a side; the larger of the two."""
        return max(target / source for source, target in zip(self.source_hw, self.target_hw, strict=True))

    def apply(self, frames: Tensor, pad_value: float | Literal["edge"]) -> Tensor:  # noqa: ARG002 - nothing is padded
        """Scale to the target size, float ``[F, C, H, W]``; arguments as for :meth:`Letterbox.apply`."""
        return resize(_checked(frames, self.source_hw), self.target_hw, antialias=self.antialias)

    def invert(self, frames: Tensor, *, outside: float) -> Tensor:  # noqa: ARG002 - the whole frame is shown
        """Scale back to the source size, float ``[F, C, H, W]``; arguments as for :meth:`Letterbox.invert`."""
        return resize(_checked(frames, self.target_hw), self.source_hw, antialias=self.antialias)


def _checked(frames: Tensor, size: tuple[int, int]) -> Tensor:
    """Return ``frames`` if they are ``[F, C, *size]``."""
    if frames.ndim != 4 or tuple(frames.shape[-2:]) != tuple(size):
        raise InputError(f"frames: expected [F, C, {size[0]}, {size[1]}], got {list(frames.shape)}")
    return frames


def resize(frames: Tensor, size: tuple[int, int], *, antialias: bool = True) -> Tensor:
    """Resize frames bilinearly.

    Args:
        frames: float ``[F, C, H, W]``.
        size: height and width of the result, in pixels.
        antialias: whether to low-pass filter before shrinking, as PIL does and cv2 does not; no effect on enlarging.

    Returns:
        float ``[F, C, *size]``.
    """
    if tuple(frames.shape[-2:]) == tuple(size):
        return frames
    height, width = size
    if width == 1 < height:
        # torch 2.13 antialiases the rows of an image one pixel wide wrongly, but not those of its transpose.
        return resize(frames.transpose(-1, -2), (width, height), antialias=antialias).transpose(-1, -2)
    return functional.interpolate(
        frames, size=(height, width), mode="bilinear", align_corners=False, antialias=antialias
    )


def resize_picture(pixels: UInt8Array, size: tuple[int, int], *, antialias: bool = True) -> UInt8Array:
    """Resize an 8-bit image bilinearly and round it to 8 bits, as PIL (antialiased) or cv2 (not antialiased) does.

    Args:
        pixels: uint8 ``[H, W]`` or ``[H, W, 3]``.
        size: height and width of the result, in pixels.
        antialias: as for :func:`resize`.

    Returns:
        uint8 of the new size.
    """
    if antialias:
        return np.array(Image.fromarray(pixels).resize((size[1], size[0]), Image.Resampling.BILINEAR))
    values = torch.from_numpy(np.ascontiguousarray(np.atleast_3d(pixels))).permute(2, 0, 1)[None].float()
    scaled = resize(values, size, antialias=False).round().clamp(0, 255).to(torch.uint8)[0].permute(1, 2, 0).numpy()
    return np.ascontiguousarray(scaled if pixels.ndim == 3 else scaled[..., 0])


_FRACTION_BITS = 22
"""Bits behind the point of PIL's 8-bit weights."""


def resize_levels(levels: Tensor, size: tuple[int, int], *, antialias: bool = True) -> Tensor:
    """:func:`resize_picture` on the device of a tensor; antialiased, with PIL's result to the bit.

    PIL resizes along the width, then along the height, with weights of 22 bits and a result of 8 bits each time. These
    are products of integers below 2^53, so a product of float64 matrices is exact in any order of summation.

    Args:
        levels: uint8 ``[C, H, W]``.
        size: height and width of the result, in pixels.
        antialias: as for :func:`resize`.

    Returns:
        uint8 ``[C, *size]``.
    """
    if tuple(levels.shape[-2:]) == tuple(size):
        return levels
    if not antialias:
        return resize(levels[None].float(), size, antialias=False)[0].round().clamp(0, 255).to(torch.uint8)
    values, one = levels.double(), float(1 << _FRACTION_BITS)
    if values.shape[-1] != size[1]:
        weights = _pil_weights(values.shape[-1], size[1], levels.device)
        values = ((values @ weights.T + one / 2) / one).floor().clamp(0, 255)
    if values.shape[-2] != size[0]:
        weights = _pil_weights(values.shape[-2], size[0], levels.device)
        values = ((weights @ values + one / 2) / one).floor().clamp(0, 255)
    return values.to(torch.uint8)


@lru_cache(maxsize=16)
def _pil_weights(source: int, target: int, device: torch.device) -> Tensor:
    """Weights of PIL's bilinear filter for 8-bit pictures, whole numbers of 2^-22, float64 ``[target, source]``."""
    scale = source / target
    reach = max(scale, 1.0)
    centers = (np.arange(target) + 0.5) * scale
    first = np.maximum((centers - reach + 0.5).astype(np.int64), 0)[:, None]
    stop = np.minimum((centers + reach + 0.5).astype(np.int64), source)[:, None]
    places = np.arange(source)[None]
    distance = np.abs((places - centers[:, None] + 0.5) * (1.0 / reach))
    weights = np.where((places >= first) & (places < stop), np.maximum(1.0 - distance, 0.0), 0.0)
    weights /= weights.sum(axis=1, keepdims=True)
    return torch.from_numpy(np.floor(weights * (1 << _FRACTION_BITS) + 0.5)).to(device)
