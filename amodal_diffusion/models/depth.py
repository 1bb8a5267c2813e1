"""Relative depth of a clip by a Depth Anything network (transformers)."""

from __future__ import annotations

from pathlib import Path
from typing import Self

import numpy as np
import torch
from safetensors import SafetensorError
from torch.nn import functional
from transformers import AutoModelForDepthEstimation, DepthAnythingForDepthEstimation, DPTImageProcessorPil

from amodal_diffusion.basics import InputError
from amodal_diffusion.models.downloads import Source, fetch, read_source
from amodal_diffusion.models.hub import locate_depth
from amodal_diffusion.models.libraries import without_bars
from amodal_diffusion.models.weights import find_device, find_variant, fingerprint
from amodal_diffusion.types import FloatArray, UInt8Array


class DepthEstimator:
    """Depth Anything V2 on batches of frames; nearer is larger.

    The network's scale is relative and differs from frame to frame by design; whoever uses the result as a guide
    scales it over the whole clip (docs/method.md, section 2).

    Attributes:
        source: where the network comes from, if it was downloaded.
    """

    def __init__(
        self, network: DepthAnythingForDepthEstimation, processor: DPTImageProcessorPil, *, batch_size: int = 4
    ) -> None:
        """Take a loaded network.

        Args:
            network: gives one relative depth map a frame.
            processor: resizes and normalises frames to what the network was trained on.
            batch_size: frames at once.
        """
        self._network = network.eval().to(memory_format=torch.channels_last)  # convolutions are quicker so
        self._processor, self._batch_size = processor, batch_size
        self.source: Source | None = None

    @classmethod
    def from_pretrained(
        cls, name: str | Path, *, device: str | torch.device = "cpu", download: bool = True, yes: bool = False
    ) -> Self:
        """Load a network with its preprocessing from safetensors.

        Args:
            name: ``small``, ``large``, a folder or a hub id, such as ``depth-anything/Depth-Anything-V2-Small-hf``,
                also with ``@REVISION``.
            device: where it runs, also ``"auto"``, as for a completer.
            download: False looks for a hub id in the local cache alone.
            yes: download without asking.

        Raises:
            InputError: if it cannot be loaded, or may not be downloaded.
        """
        place = locate_depth(name)
        folder = place if isinstance(place, Path) else fetch([place], yes=yes, download=download)[place]
        try:
            variant = find_variant(folder, "model")  # says what is there instead
            with without_bars():
                network = AutoModelForDepthEstimation.from_pretrained(
                    folder, variant=variant, local_files_only=True, use_safetensors=True, trust_remote_code=False
                )
            processor = DPTImageProcessorPil.from_pretrained(folder, local_files_only=True)
        except (OSError, ValueError, SafetensorError) as error:
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise InputError(f"depth model {name}: cannot be loaded ({reason})") from error
        estimator = cls(network.to(find_device(device)), processor)
        estimator.source = read_source(folder)
        return estimator

    def fingerprint(self) -> str:
        """Which network with which preprocessing it is, see `models.fingerprint`."""
        return fingerprint(self._network, self._processor.to_dict())

    @torch.inference_mode()
    def __call__(self, rgb: UInt8Array) -> FloatArray:
        """Estimate the depth of frames.

        Args:
            rgb: uint8 ``[F, H, W, 3]``, RGB.

        Returns:
            float32 ``[F, H, W]``, relative, nearer is larger.
        """
        with torch.autocast(self._network.device.type, enabled=False):  # as in use, whatever training computes in
            return self._estimate(rgb)

    def _estimate(self, rgb: UInt8Array) -> FloatArray:
        height, width = rgb.shape[1:3]
        maps = []
        for start in range(0, len(rgb), self._batch_size):
            batch = list(rgb[start : start + self._batch_size])
            pixels = self._processor(images=batch, return_tensors="pt")["pixel_values"]
            depth = self._network(pixels.to(self._network.device, self._network.dtype)).predicted_depth  # [n, h', w']
            full = functional.interpolate(
                depth[:, None].float(), size=(height, width), mode="bilinear", align_corners=False
            )
            maps.append(full[:, 0].cpu().numpy())
        return np.concatenate(maps)
