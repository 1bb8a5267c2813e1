"""Values that cross layers: a clip with its visible masks, the completed result, and the error for bad input.

Letters used in every shape of this package: ``B`` clips, ``F`` frames, ``C`` channels, ``H W`` pixels,
``h w`` latent cells, ``D`` width of an image-encoder token.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

UInt8Array = npt.NDArray[np.uint8]
BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float32]

Stage = Literal["amodal_segmentation", "content_completion"]
STAGES: tuple[Stage, ...] = ("amodal_segmentation", "content_completion")


class InputError(ValueError):
    """Something given from outside is wrong; the message names it, what was expected, what came, what to do."""


def one_line(error: InputError | OSError) -> str:
    """What a user is told of an error: one line, which begins with the file if the system refused one."""
    text = str(error)
    if isinstance(error, OSError) and error.filename is not None:
        text = f"{error.filename}: {error.strerror or type(error).__name__}"
    return " ".join(text.split())


@dataclass(frozen=True)
class VideoClip:
    """A clip and the mask of what can be seen of one object in it.

    Attributes:
        rgb: frames, uint8 ``[F, H, W, 3]``.
        modal_mask: visible part of the object, bool ``[F, H, W]``; empty in a frame that hides all of it.
        fps: frames a second, above 0.

    Raises:
        InputError: if a shape, a dtype or the frame rate is not as above, or if the object is never visible.
    """

    rgb: UInt8Array
    modal_mask: BoolArray
    fps: float = 8.0

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

    @property
    def num_frames(self) -> int:
        """Number of frames ``F``."""
        return int(self.rgb.shape[0])


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
