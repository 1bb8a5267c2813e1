"""Stage 1 by any `AmodalSegmenter`, in the place of the diffusion pipeline: it sees each shot of an object at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from amodal_diffusion.pipelines.amodal_segmentation import SegmentedFrame
from amodal_diffusion.pipelines.preprocessing import FrameInput
from amodal_diffusion.types import AmodalSegmenter, Segmentation, VideoClip


class ShotSegmentation:
    """Stage 1 over the frames of a shot, of one or several objects; memory is that of the shot.

    Pushed to as :class:`~amodal_diffusion.pipelines.amodal_segmentation.SegmentationStream` is. Methods crop and window
    by their own rules, so each gets whole frames, and the objects one after another.

    Args:
        segmenter: the method.
        objects: number of objects.
        seed: of the generator that each object of each shot begins with.
    """

    def __init__(self, segmenter: AmodalSegmenter, objects: int, *, seed: int) -> None:
        self._segmenter, self._seed = segmenter, seed
        self._frames: list[list[FrameInput]] = [[] for _ in range(objects)]

    def push(self, frames: Sequence[FrameInput] | None) -> list[list[SegmentedFrame]]:
        """Take the next frame of each object.

        Args:
            frames: one an object; None ends the shot.

        Returns:
            for each object, all frames of the shot at its end, none before.
        """
        if frames is None:
            return [self._segment(held) for held in self._frames]
        for held, frame in zip(self._frames, frames, strict=True):
            held.append(frame)
        return [[] for _ in self._frames]

    def _segment(self, frames: Sequence[FrameInput]) -> list[SegmentedFrame]:
        """Masks of one object in all frames of the shot."""
        found = self._predict(frames)
        if found is None:
            found = Segmentation.certain(np.stack([frame.modal for frame in frames]))
        return [
            SegmentedFrame(frame, (mask if frame.amodal is None else frame.amodal) | frame.modal, score=score)
            for frame, mask, score in zip(frames, found.mask, found.probability, strict=True)
        ]

    def _predict(self, frames: Sequence[FrameInput]) -> Segmentation | None:
        """What the method says of a shot; None if all masks are known, or nothing shows the object."""
        modal = np.stack([frame.modal for frame in frames])
        if not modal.any() or all(frame.amodal is not None for frame in frames):
            return None
        depths = [frame.depth for frame in frames if frame.depth is not None]
        return self._segmenter(
            VideoClip(np.stack([frame.rgb for frame in frames]), modal, cuts="none"),
            np.stack(depths) if len(depths) == len(frames) else None,
            generator=torch.Generator().manual_seed(self._seed),
        )


def network_of(segmenter: AmodalSegmenter | None) -> nn.Module | None:
    """The networks of a method; None if it has none."""
    network = getattr(segmenter, "model", None)
    return network if isinstance(network, nn.Module) else None
