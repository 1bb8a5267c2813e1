"""S-AModal on one page, online: a point on the visible part, SAM with adapters, and a memory for hidden frames."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from amodal_diffusion.basics import InputError
from amodal_diffusion.frames.cuts import clip_cuts
from amodal_diffusion.models.cotracker import CoTracker
from amodal_diffusion.models.s_amodal.config import SAModalSampling
from amodal_diffusion.models.s_amodal.memory import PointMemory, Seen
from amodal_diffusion.models.s_amodal.network import SAModal
from amodal_diffusion.models.s_amodal.prompts import select_points
from amodal_diffusion.models.s_amodal.saving import load_s_amodal
from amodal_diffusion.models.sam import SamFrame
from amodal_diffusion.models.weights import find_device
from amodal_diffusion.propagation.point_tracking import ConstantVelocity, LucasKanade, PointTracker
from amodal_diffusion.types import BoolArray, FloatArray, Segmentation, UInt8Array, VideoClip


@dataclass(frozen=True)
class FrameSegmentation:
    """What S-AModal says of one frame.

    Attributes:
        mask: amodal mask, bool ``[H, W]``.
        probability: that a pixel belongs to the object, float32 ``[H, W]`` in [0, 1].
        valid: False if the object was never seen or has left the frame; the mask is empty then.
        score: predicted IoU of the mask in [0, 1]; in a frame that hides the object, that of the frame it was last
            seen in.
        tracked: the frame hides the object, and its mask was moved here.
    """

    mask: BoolArray
    probability: FloatArray
    valid: bool
    score: float
    tracked: bool


class SAModalSegmenter:
    """Predicts amodal masks with S-AModal.

    Args:
        model: the networks, run in evaluation mode.
        sampling: how masks are predicted.
        tracker: finds hidden objects; None makes the one that ``sampling`` names.
        device: as for :func:`~amodal_diffusion.models.weights.find_device`.

    Raises:
        InputError: if the device cannot be used, or ``sampling.tracker`` is one that must be given as ``tracker``.
    """

    def __init__(
        self,
        model: SAModal,
        sampling: SAModalSampling | None = None,
        *,
        tracker: PointTracker | None = None,
        device: str | torch.device = "cpu",
    ) -> None:
        self.sampling = sampling or SAModalSampling()
        self.device = find_device(device)
        self.tracker = tracker or _named_tracker(self.sampling, self.device)
        self.model = model.to(self.device)

    @classmethod
    def from_folder(
        cls,
        folder: Path,
        *,
        sam: str | Path | None = None,
        tracker: PointTracker | None = None,
        device: str | torch.device = "cpu",
        yes: bool = False,
    ) -> SAModalSegmenter:
        """Load a checkpoint, which is sampled as it says.

        Args:
            folder: as `save_s_amodal` writes it.
            sam: folder or hub id of the pretrained SAM, if it is elsewhere than the checkpoint says.
            tracker: in place of the one that the checkpoint names.
            device: as for the class.
            yes: download the pretrained SAM without asking.

        Raises:
            InputError: as `load_s_amodal` and the class.
        """
        model, sampling = load_s_amodal(folder, sam=sam, yes=yes)
        return cls(model, sampling, tracker=tracker, device=device)

    def __call__(
        self, clip: VideoClip, depth: FloatArray | None = None, *, generator: torch.Generator | None = None
    ) -> Segmentation:
        """Predict the amodal masks of a clip; each shot is a clip of its own.

        Args:
            clip: frames and modal masks. With ``cuts="auto"`` its cuts are found by looking ahead; apart from them, a
                frame's result does not depend on later frames.
            depth: unused; the method sees only colors and masks.
            generator: draws the points; by default a new one with seed 0, so that equal clips get equal masks.
        """
        del depth
        frames = zip(clip.rgb, clip.modal_mask, strict=True)
        found = list(self.stream(frames, cuts=clip_cuts(clip), generator=generator))
        return Segmentation(
            np.stack([frame.mask for frame in found]),
            np.stack([frame.probability for frame in found]),
            np.array([frame.valid for frame in found], dtype=np.bool_),
            np.array([frame.score for frame in found], dtype=np.float32),
        )

    def stream(
        self,
        frames: Iterable[tuple[UInt8Array, BoolArray]],
        *,
        cuts: Iterable[int] = (),
        generator: torch.Generator | None = None,
    ) -> Iterator[FrameSegmentation]:
        """Predict frame by frame; each frame is answered before the next is asked for.

        Args:
            frames: RGB, uint8 ``[H, W, 3]``, and modal mask, bool ``[H, W]``, of one size; frames may be empty of the
                object at any time.
            cuts: numbers of frames at which all that was seen is forgotten.
            generator: as for a clip.

        Raises:
            InputError: if a frame or mask has another size or dtype.
        """
        generator = generator or torch.Generator().manual_seed(0)
        new_shots, size = set(cuts), None
        memory = PointMemory(self.sampling, self.tracker)
        for number, (rgb, modal) in enumerate(frames):
            size = size or rgb.shape
            _check_frame(number, rgb, modal, size)
            if number in new_shots:
                memory = PointMemory(self.sampling, self.tracker)

            # 1. A frame that shows the object: a point on it, and what SAM answers.
            if modal.any():
                seen = self._prompted(rgb, modal, generator)
                memory.see(seen)
                yield FrameSegmentation(seen.mask, seen.probability, valid=True, score=seen.score, tracked=False)
                continue

            # 2. A frame that hides it: the mask of the last frame that showed it, moved with its points.
            hidden = memory.hide(rgb)
            if hidden is None or not hidden.mask.any():
                nothing = np.zeros(modal.shape, dtype=np.bool_)
                yield FrameSegmentation(nothing, nothing.astype(np.float32), valid=False, score=0.0, tracked=False)
            else:
                yield FrameSegmentation(hidden.mask, hidden.probability, valid=True, score=hidden.score, tracked=True)

    @torch.no_grad()
    def _prompted(self, rgb: UInt8Array, modal: BoolArray, generator: torch.Generator) -> Seen:
        """Amodal mask of a frame that shows a part of the object."""
        geometry = SamFrame((rgb.shape[0], rgb.shape[1]), self.model.config.sam.image_size)
        points = select_points(modal, self.sampling, generator=generator)  # [N, 2]
        pixels = geometry.apply(rgb[None]).to(self.device)
        with evaluating(self.model):
            logits, iou = self.model(pixels, geometry.points(points)[None, None].to(self.device))  # [1, 1, s, s]
        probability = geometry.invert(logits.float()).sigmoid()[0, 0].cpu().numpy()

        # The visible part belongs to the object, whatever the network says.
        mask = probability > self.sampling.mask_threshold
        if self.sampling.union_modal:
            mask |= modal
        score = float(iou[0, 0].float().nan_to_num().clamp(0, 1))
        return Seen(rgb, points.double().numpy(), mask, probability, score)


@contextmanager
def evaluating(model: SAModal) -> Iterator[None]:
    """Context in which the model is in evaluation mode."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


def _named_tracker(sampling: SAModalSampling, device: torch.device) -> PointTracker:
    if sampling.tracker == "cotracker":
        if sampling.tracker_weights is None:
            raise InputError(
                "tracker_weights: expected a safetensors file of CoTracker's weights beside tracker cotracker, got none"
            )
        return CoTracker.load(Path(sampling.tracker_weights), device=device)
    return LucasKanade() if sampling.tracker == "lucas_kanade" else ConstantVelocity()


def _check_frame(number: int, rgb: UInt8Array, modal: BoolArray, size: tuple[int, ...]) -> None:
    """Check a frame that a stream gives; those of a `VideoClip` are checked already."""
    good = rgb.ndim == 3 and rgb.shape == size and rgb.shape[-1] == 3 and rgb.dtype == np.uint8
    if not (good and modal.shape == rgb.shape[:2] and modal.dtype == np.bool_):
        raise InputError(
            f"frames: expected uint8 {list(size)}, three channels last, and bool {list(size[:2])}, as the first, got "
            f"{rgb.dtype} {list(rgb.shape)} and {modal.dtype} {list(modal.shape)} in frame {number}"
        )
