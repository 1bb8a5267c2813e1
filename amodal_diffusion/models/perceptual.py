"""Networks that compare pictures as people do: LPIPS, and the features that a Frechet video distance is made of."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from amodal_diffusion.basics import InputError
from amodal_diffusion.frames.transforms import to_unit
from amodal_diffusion.models.libraries import without_bars
from amodal_diffusion.models.weights import find_variant, load_strictly, read_state_dict
from amodal_diffusion.types import UInt8Array

_TAPS = (1, 4, 7, 9, 11)  # the five ReLUs
_CHANNELS = (64, 192, 384, 256, 256)
_SHIFT, _SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SMALLEST = 32
"""Pixels a side below which the last pooling of AlexNet has nothing left."""


class Lpips(nn.Module):
    """LPIPS 0.1 over AlexNet's features (Zhang et al. 2018).

    Its file has the keys of the two files that it is published in: ``features.0.weight`` and so on of AlexNet,
    ``lin0.model.1.weight`` and so on of the weights over its features; docs/method.md, section 8, makes it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 64, 11, stride=4, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(3, stride=2),
            nn.Conv2d(64, 192, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(3, stride=2),
            nn.Conv2d(192, 384, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(384, 256, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(256, 256, 3, padding=1),
            nn.ReLU(),
        )
        for level, channels in enumerate(_CHANNELS):
            head = nn.Sequential(nn.Dropout(), nn.Conv2d(channels, 1, 1, bias=False))
            self.add_module(f"lin{level}", nn.ModuleDict({"model": head}))

    @classmethod
    def from_file(cls, path: Path) -> Lpips:
        """Load the weights.

        Args:
            path: a safetensors file.

        Raises:
            InputError: if there is no such file or it has other keys.
        """
        if path.suffix != ".safetensors":
            raise InputError(f"{path}: expected a safetensors file of AlexNet's and LPIPS's weights")
        network = cls()
        load_strictly(network, read_state_dict(path.parent, path.stem), source=path)
        return network.eval().requires_grad_(False)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Distance of each pair of pictures.

        Args:
            first: ``[B, 3, H, W]`` in [-1, 1].
            second: likewise.

        Returns:
            ``[B]``, 0 for equal pictures.
        """
        shift, scale = first.new_tensor(_SHIFT)[:, None, None], first.new_tensor(_SCALE)[:, None, None]
        one, other = (first - shift) / scale, (second - shift) / scale
        total = first.new_zeros(len(first))
        for number, layer in enumerate(self.features):
            one, other = layer(one), layer(other)
            if number in _TAPS:
                head = getattr(self, f"lin{_TAPS.index(number)}")["model"]
                total = total + head((_normalised(one) - _normalised(other)) ** 2).mean(dim=(1, 2, 3))
        return total

    @torch.no_grad()
    def distance(self, predicted: UInt8Array, truth: UInt8Array) -> float:
        """Mean distance of the frames of two clips.

        Args:
            predicted: uint8 ``[F, H, W, 3]``, at least 32 x 32 pixels.
            truth: likewise.

        Raises:
            InputError: if the frames are smaller.
        """
        if min(truth.shape[1:3]) < SMALLEST:
            raise InputError(
                f"frames: expected at least {SMALLEST} x {SMALLEST} pixels for LPIPS, got {truth.shape[1:3]}"
            )
        pairs = zip(to_unit(predicted).split(1), to_unit(truth).split(1), strict=True)
        return float(torch.cat([self(first, second) for first, second in pairs]).mean())


class VideoFeatures:
    """Features of whole clips by VideoMAE, for a Frechet distance that is sensitive to motion.

    Published FVD uses another network (I3D), so that its figures compare with each other only.
    """

    def __init__(self, folder: Path) -> None:
        """Load the network.

        Args:
            folder: a VideoMAE model as transformers saves it, in safetensors.

        Raises:
            InputError: if the folder has none.
        """
        from transformers import VideoMAEModel

        find_variant(folder, "model")  # says what is there instead
        try:
            with without_bars():
                network = VideoMAEModel.from_pretrained(folder, local_files_only=True, use_safetensors=True)
        except (OSError, ValueError) as error:
            raise InputError(f"{folder}: expected a VideoMAE model in safetensors ({error})") from error
        self._network = network.eval()
        self._frames: int = self._network.config.num_frames
        self._side: int = self._network.config.image_size

    @torch.no_grad()
    def __call__(self, rgb: UInt8Array) -> npt.NDArray[np.float64]:
        """Features of one clip, of which as many frames as the network takes are looked at, evenly spread.

        Args:
            rgb: uint8 ``[F, H, W, 3]``.

        Returns:
            float64 ``[D]``: the mean over the network's tokens.
        """
        chosen = np.linspace(0, len(rgb) - 1, self._frames).round().astype(int)
        unit = (to_unit(rgb[chosen]) + 1) / 2  # [F, 3, H, W] in [0, 1]
        frames = F.interpolate(unit, (self._side, self._side), mode="bilinear", antialias=True, align_corners=False)
        mean, deviation = frames.new_tensor(_MEAN)[:, None, None], frames.new_tensor(_DEVIATION)[:, None, None]
        tokens = self._network(rearrange((frames - mean) / deviation, "f c h w -> 1 f c h w")).last_hidden_state
        return np.asarray(tokens[0].mean(dim=0).double().numpy())


def _normalised(features: Tensor) -> Tensor:
    """Features ``[B, C, h, w]`` of length 1 at each place."""
    return features / (features.square().sum(dim=1, keepdim=True).sqrt() + 1e-10)
