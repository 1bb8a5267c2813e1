"""Values that cross layers: a clip with its visible masks, the completed result, and the error for bad input.

Letters used in every shape of this package: ``B`` clips, ``F`` frames, ``C`` channels, ``H W`` pixels,
``h w`` latent cells, ``D`` width of an image-encoder token.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

UInt8Array = npt.NDArray[np.uint8]
BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float32]

Cuts = Literal["auto", "none"] | tuple[int, ...]
"""Hard cuts of a clip: found by its colors, none, or the first frames of all shots but the first, in order."""
Stage = Literal["amodal_segmentation", "content_completion"]
STAGES: tuple[Stage, ...] = ("amodal_segmentation", "content_completion")


class InputError(ValueError):
    """Something given from outside is wrong; the message names it, what was expected, what came, what to do."""


@dataclass(frozen=True)
class VideoClip:
    """A clip and the mask of what can be seen of one object in it.

    Attributes:
        rgb: frames, uint8 ``[F, H, W, 3]``.
        modal_mask: visible part of the object, bool ``[F, H, W]``; empty in a frame that hides all of it.
        fps: frames a second, above 0.
        cuts: hard cuts. ``"auto"`` finds them (:func:`~amodal_diffusion.frames.cuts.find_cuts`), ``"none"`` takes the
            clip for one shot, ``(24, 80)`` are the first frames of new shots. Each shot is completed as a clip of its
            own.

    Raises:
        InputError: if a shape, a dtype, the frame rate or a cut is not as above, or if the object is never visible.
    """

    rgb: UInt8Array
    modal_mask: BoolArray
    fps: float = 8.0
    cuts: Cuts = "auto"

    def __post_init__(self) -> None:
        """Check the shapes once, so that nothing further down has to."""
        if self.rgb.dtype != np.uint8 or self.rgb.ndim != 4 or self.rgb.shape[-1] != 3 or 0 in self.rgb.shape:
            raise InputError(
                f"rgb: expected uint8 [F, H, W, 3] with at least one frame, got {self.rgb.dtype} "
                f"{list(self.rgb.shape)}; convert the frames to 8-bit RGB"
            )
        if self.modal_mask.dtype != np.bool_ or self.modal_mask.shape != self.rgb.shape[:3]:
            raise InputError(
                f"modal_mask: expected bool {list(self.rgb.shape[:3])} to match rgb, got {self.modal_mask.dtype} "
                f"{list(self.modal_mask.shape)}; give one mask a frame at the frames' size"
            )
        if not self.modal_mask.any():
            raise InputError("modal_mask: empty in every frame; the object must be visible in at least one")
        if not self.fps > 0:
            raise InputError(f"fps: expected a frame rate above 0, got {self.fps}")
        if not (isinstance(self.cuts, str) and self.cuts in ("auto", "none")):
            object.__setattr__(self, "cuts", check_cuts(self.cuts, self.num_frames, what="cuts"))

    @property
    def num_frames(self) -> int:
        """Number of frames ``F``."""
        return int(self.rgb.shape[0])


def check_cuts(cuts: object, num_frames: int, *, what: str) -> tuple[int, ...]:
    """Check the first frames of new shots against a clip.

    Args:
        cuts: as they were given.
        num_frames: of the clip.
        what: the argument, for the error.

    Raises:
        InputError: if they are no numbers of frames after the first, in ascending order.
    """
    given: list[Any] = list(cuts) if isinstance(cuts, Iterable) and not isinstance(cuts, str) else [cuts]
    whole = all(isinstance(cut, (int, np.integer)) and not isinstance(cut, bool) for cut in given)
    if not whole or any(one >= other for one, other in pairwise([0, *given, num_frames])):
        found = ", ".join(map(str, given)) or "nothing"
        raise InputError(
            f"{what}: expected auto, none or the first frames of new shots, ascending from 1 to {num_frames - 1}, got "
            f"{found}; the first shot begins at frame 0 by itself"
        )
    return tuple(int(cut) for cut in given)


class AmodalSegmenter(Protocol):
    """Predicts the amodal mask of a clip's object: a baseline or a model."""

    def __call__(self, clip: VideoClip, depth: FloatArray | None) -> BoolArray:
        """Predict the amodal mask.

        Args:
            clip: frames and modal mask.
            depth: any scale, nearer is larger, float32 ``[F, H, W]``; None where there is none.

        Returns:
            bool ``[F, H, W]``; contains the modal mask.
        """
        ...


@dataclass(frozen=True)
class AmodalResult:
    """The whole object in each frame.

    Attributes:
        amodal_mask: whole object, bool ``[F, H, W]``; contains the modal mask.
        amodal_rgb: whole object on white, uint8 ``[F, H, W, 3]``; None when only the masks were asked for.
        rgba: the object's layer, uint8 ``[F, H, W, 4]``, straight alpha 0 or 255; visible pixels are the
            input's to the bit; None when only the masks were asked for.
        samples: several predictions of the amodal mask, bool ``[K, F, H, W]``; ``amodal_mask`` is what most of them
            have. None when one was asked for.
    """

    amodal_mask: BoolArray
    amodal_rgb: UInt8Array | None = None
    rgba: UInt8Array | None = None
    samples: BoolArray | None = None

    @property
    def probability(self) -> FloatArray:
        """Share of the samples that have a pixel, float32 ``[F, H, W]`` in [0, 1]."""
        samples = self.amodal_mask[None] if self.samples is None else self.samples
        return np.asarray(samples.mean(axis=0, dtype=np.float32))
