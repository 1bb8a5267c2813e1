"""Frames, points and masks between a clip's size and that of a segmenter, as its processor does it, in torch alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from amodal_diffusion.basics import InputError
from amodal_diffusion.frames.transforms import resize
from amodal_diffusion.models.weights import read_json
from amodal_diffusion.types import BoolArray, UInt8Array

# Where checkpoints keep the numbers of their preprocessing, by preference; the last holds those of several parts.
_FILES = ("video_preprocessor_config.json", "preprocessor_config.json", "processor_config.json")
_PARTS = ("video_processor", "image_processor")


@dataclass(frozen=True)
class Preprocessing:
    """The numbers of a segmenter's preprocessing; the frame's aspect is not kept.

    Attributes:
        size: the network sees squares of so many pixels a side.
        mean: per channel, of values in [0, 1].
        std: per channel.
    """

    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def read(cls, folder: Path, *, size: int, default: tuple[Sequence[float], Sequence[float]]) -> Self:
        """Read the numbers that a checkpoint was trained with.

        Args:
            folder: of the checkpoint.
            size: of its network.
            default: mean and standard deviation where no file says any.

        Raises:
            InputError: if a file is damaged or its numbers are not three a channel.
        """
        mean: object
        std: object
        mean, std = default
        file = next((folder / name for name in _FILES if (folder / name).is_file()), None)
        if file is not None:
            values = read_json(file)
            parts = (values.get(name) for name in _PARTS)
            part = next((part for part in parts if isinstance(part, dict)), values)
            mean, std = part.get("image_mean", mean), part.get("image_std", std)
        return cls(size, _three(mean, file), _three(std, file))

    def shrink(self, rgb: UInt8Array) -> Tensor:
        """Bring a frame to the network's size; what is kept where frames have to wait.

        Args:
            rgb: uint8 ``[H, W, 3]``.

        Returns:
            uint8 ``[3, size, size]``.
        """
        channels = torch.from_numpy(np.ascontiguousarray(rgb)).permute(2, 0, 1)[None]  # [1, 3, H, W]
        return resize(channels, (self.size, self.size))[0]  # in 8 bits, as the processor does it

    def normalise(self, pixels: Tensor) -> Tensor:
        """Scale 8-bit values to what the network was trained on.

        Args:
            pixels: uint8 ``[3, size, size]``.

        Returns:
            float32 ``[3, size, size]``.
        """
        mean, std = (torch.tensor(numbers, device=pixels.device)[:, None, None] for numbers in (self.mean, self.std))
        return (pixels.float() / 255 - mean) / std

    def scale(self, places: Sequence[tuple[float, float]], *, height: int, width: int) -> Tensor:
        """Bring points to the network's size.

        Args:
            places: x and y in pixels of the clip.
            height: of the clip's frames.
            width: of the clip's frames.

        Returns:
            float32 ``[n, 2]``, x and y.
        """
        return torch.tensor(places, dtype=torch.float32) * torch.tensor([self.size / width, self.size / height])


def _three(numbers: object, file: Path | None) -> tuple[float, ...]:
    given = numbers if isinstance(numbers, (list, tuple)) else ()
    if len(given) != 3 or not all(isinstance(number, (int, float)) for number in given):
        raise InputError(f"{file}: expected image_mean and image_std of 3 numbers, got {numbers}")
    return tuple(map(float, given))


def masks_from_logits(logits: Tensor, *, height: int, width: int) -> BoolArray:
    """Bring a network's masks to the clip's size, then cut them at 0.

    Args:
        logits: float ``[n, h, w]``, any device.
        height: of the clip's frames.
        width: of the clip's frames.

    Returns:
        bool ``[n, height, width]``.
    """
    full = functional.interpolate(logits[:, None].float(), (height, width), mode="bilinear", align_corners=False)
    masks: BoolArray = (full[:, 0] > 0).cpu().numpy()
    return masks
