"""Values that cross layers: a clip with its visible masks, and the completed result.

Letters used in every shape of this package: ``B`` clips, ``F`` frames, ``C`` channels, ``H W`` pixels,
``h w`` latent cells, ``D`` width of an image-encoder token.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import import_module
from itertools import pairwise
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeAlias

import numpy as np
import numpy.typing as npt

from amodal_diffusion.array_advice import (
    depth_advice,
    frames_advice,
    masks_advice,
    object_masks_advice,
    values_advice,
)
from amodal_diffusion.basics import Cuts, InputError, counted

if TYPE_CHECKING:
    import torch

UInt8Array = npt.NDArray[np.uint8]
BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float32]
ArrayInput: TypeAlias = npt.NDArray[Any] | Sequence[Any] | Any
"""What a caller may have: an array, a torch tensor on any device, or a sequence of these or of PIL pictures."""

FASTEST = 10_000
"""Frames a second that a video can have at most; high-speed cameras record fewer."""
logger = logging.getLogger(__name__)


@dataclass(frozen=True, init=False)
class VideoClip:
    """A clip and the mask of what can be seen of one object in it.

    Arrays are numpy arrays, torch tensors on any device, or sequences of these or of PIL pictures, one a frame.

    Attributes:
        rgb: frames, uint8 ``[F, H, W, 3]``. Given as 8-bit integers or as floats in 0..1, channels last, or first
            (``[F, 3, H, W]``) where the last axis is not 3.
        modal_mask: visible part of the object, bool ``[F, H, W]``; empty in a frame that hides all of it. Given as
            bool, as integers with one value beside 0, or as floats in 0..1, which are inside from 0.5 on;
            ``[F, H, W]`` or ``[F, 1, H, W]``.
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

    def __init__(self, rgb: ArrayInput, modal_mask: ArrayInput, fps: float = 8.0, cuts: Cuts = "auto") -> None:
        """Convert and check once, so that nothing further down has to."""
        frames = as_frames(rgb, "rgb")
        masks = as_masks(modal_mask, "modal_mask")
        if masks.shape != frames.shape[:3]:
            raise InputError(
                f"modal_mask: expected bool {list(frames.shape[:3])} to match rgb, got {masks.dtype} "
                f"{list(masks.shape)}; give one mask a frame at the frames' size"
            )
        if not masks.any():
            raise InputError("modal_mask: empty in every frame; the object must be visible in at least one")
        check_rate(fps)
        checked = cuts if cuts in ("auto", "none") else check_cuts(cuts, len(frames), what="cuts")
        for name, value in (("rgb", frames), ("modal_mask", masks), ("fps", fps), ("cuts", checked)):
            object.__setattr__(self, name, value)

    @classmethod
    def from_file(
        cls, clip: str | Path, masks: str | Path, *, object_name: str | None = None, cuts: Cuts = "auto"
    ) -> Self:
        """Read a clip and the masks of one object from files, as the command `complete` does.

        Args:
            clip: video file, folder of pictures, or picture.
            masks: pictures, label maps, a video, a NumPy file, COCO or YouTube-VIS JSON, or a folder of folders.
            object_name: which object; may be left out where there is one.
            cuts: as for a clip.

        Raises:
            InputError: if a file cannot be read, masks do not fit the clip, or there are several objects and none is
                named.
        """
        # By name, as no module imports from a layer above its own
        read_objects = import_module("amodal_diffusion.io.clip_files").read_objects
        objects = read_objects(clip, masks, names=None if object_name is None else [object_name], cuts=cuts)
        if len(objects) > 1:
            raise InputError(f"object_name: expected one of {', '.join(objects)}, got none; name the object")
        (found,) = objects.values()
        assert isinstance(found, cls)
        return found

    def __repr__(self) -> str:
        """Shape, frame rate and share of visible pixels, without the arrays."""
        frames, height, width = self.modal_mask.shape
        return (
            f"VideoClip({counted(frames, 'frame')} of {width}x{height}, {self.fps:g} fps, object visible in "
            f"{counted(int(self.modal_mask.any(axis=(1, 2)).sum()), 'frame')})"
        )

    @property
    def num_frames(self) -> int:
        """Number of frames ``F``."""
        return int(self.rgb.shape[0])


def check_rate(fps: object, *, at_most: float = sys.float_info.max) -> None:
    """Check a frame rate.

    Args:
        fps: a number.
        at_most: the highest.

    Raises:
        InputError: if it is no number above 0, or above the highest.
    """
    rate = float(fps) if not isinstance(fps, bool) and isinstance(fps, Real) else 0.0
    if not 0 < rate <= at_most:
        bound = f" and up to {at_most:,}" if at_most < sys.float_info.max else ""
        raise InputError(f"fps: expected a frame rate above 0{bound}, got {fps!r}")


def as_frames(value: ArrayInput, what: str) -> UInt8Array:
    """Convert frames of any accepted kind, see `VideoClip`.

    Args:
        value: the frames.
        what: name of the argument for messages.

    Returns:
        uint8 ``[F, H, W, 3]``; the array itself where it is that.

    Raises:
        InputError: if they are of another shape or dtype, or not in range; names the argument and the shape.
    """
    array = _as_array(value, what, picture_mode="RGB")
    got = f"{array.dtype} {list(array.shape)}"
    if array.ndim == 4 and array.shape[-1] != 3 and array.shape[1] == 3:
        array = np.ascontiguousarray(np.moveaxis(array, 1, -1))
    is_float = array.dtype.kind == "f"
    if array.ndim != 4 or array.shape[-1] != 3 or 0 in array.shape or not (is_float or array.dtype == np.uint8):
        raise InputError(
            f"{what}: expected uint8 [F, H, W, 3] with at least one frame, or floats in 0..1, got {got}; "
            f"{frames_advice(array.shape, what)}"
        )
    return _from_floats(array, what) if is_float else array


def as_masks(value: ArrayInput, what: str) -> BoolArray:
    """Convert masks of one object of any accepted kind, see `VideoClip`.

    Args:
        value: the masks.
        what: name of the argument for messages.

    Returns:
        bool ``[F, H, W]``; the array itself where it is that.

    Raises:
        InputError: if they are of another shape or dtype, of several objects, or not in range; names the argument and
            the shape.
    """
    array = _as_array(value, what, picture_mode=None)
    got = f"{array.dtype} {list(array.shape)}"
    if array.ndim == 4 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 3 or array.dtype.kind not in "biuf":
        raise InputError(
            f"{what}: expected bool [F, H, W] or [F, 1, H, W], got {got}; {masks_advice(array.shape, what)}"
        )
    if array.dtype == np.bool_:
        return array
    if array.dtype.kind == "f":
        if not np.isfinite(array).all() or (array.size and (array.min() < 0 or array.max() > 1)):
            raise InputError(
                f"{what}: expected floats in 0..1, got {got} with values from {array.min():.6g} to {array.max():.6g}; "
                "give mask > 0 or its probability"
            )
        return np.asarray(array >= 0.5)
    values = np.unique(array)
    if len(values[values != 0]) > 1 or (len(values) and values[0] < 0):
        shown = ", ".join(map(str, values[:6])) + (", ..." if len(values) > 6 else "")
        raise InputError(
            f"{what}: expected one object, with one value beside 0, got {got} with the values {shown}; "
            f"{values_advice(int(values[-1]))}"
        )
    return np.asarray(array != 0)


def as_object_masks(
    value: ArrayInput, what: str, num_frames: int, *, labels: bool = False
) -> tuple[list[BoolArray], bool]:
    """Convert masks of one or several objects.

    Args:
        value: masks of one object as :func:`as_masks` takes them; of several, ``[O, F, H, W]``, an array, a tensor, or
            a list of masks of one object each. ``[F, 1, H, W]`` is one object wherever the first axis is F.
        what: name of the argument for messages.
        num_frames: F.
        labels: take each value beside 0 of integers ``[F, H, W]`` for an object, in ascending order.

    Returns:
        bool ``[F, H, W]`` for each object; whether the masks have an axis of objects, or labels.

    Raises:
        InputError: as :func:`as_masks`; with `labels` also if the masks are no integers or name no object.
    """
    array = _as_array(value, what, picture_mode=None)
    if array.ndim == 4 and len(array) == 0:
        raise InputError(f"{what}: expected at least one object, got {list(array.shape)}")
    if labels:
        if array.dtype.kind in "iu" and not array.any():
            raise InputError(f"{what}: no value beside 0; labels=True takes each value from 1 on for an object")
        if array.ndim != 3 or array.dtype.kind not in "iu" or array.min() < 0:
            raise InputError(
                f"{what}: expected integers [F, H, W] with a value for each object and 0 elsewhere, as labels=True "
                f"says, got {array.dtype} {list(array.shape)}; leave labels out for masks"
            )
        return [np.asarray(array == label) for label in np.unique(array[array != 0])], True
    if array.ndim == 5 or (array.ndim == 4 and array.shape[:2] != (num_frames, 1)):
        advice = object_masks_advice(array.shape, what, num_frames) if array.ndim == 4 else None
        if advice is not None:
            raise InputError(
                f"{what}: expected [F, H, W], or [O, F, H, W] of {counted(num_frames, 'frame')}, got "
                f"{list(array.shape)}; {advice}"
            )
        return [as_masks(masks, f"{what}[{number}]") for number, masks in enumerate(array)], True
    return [as_masks(array, what)], False


def as_depth(value: ArrayInput, what: str) -> FloatArray:
    """Convert depth of a clip.

    Args:
        value: numbers ``[F, H, W]`` or ``[F, 1, H, W]``, an array, a tensor, or a sequence of these, one a frame.
        what: name of the argument for messages.

    Returns:
        float32 ``[F, H, W]``; the array itself where it is that.

    Raises:
        InputError: if it is of another shape or dtype, or not finite; names the argument and the shape.
    """
    array = _as_array(value, what, picture_mode=None)
    got = f"{array.dtype} {list(array.shape)}"
    if array.ndim == 4 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 3 or array.dtype.kind not in "iuf":
        raise InputError(
            f"{what}: expected numbers [F, H, W] or [F, 1, H, W], got {got}; {depth_advice(array.shape, what)}"
        )
    depth = np.asarray(array, dtype=np.float32)
    if not np.isfinite(depth).all():
        raise InputError(f"{what}: expected finite values, got NaN or infinity in {got}; fill or clip them first")
    return depth


def _from_floats(array: npt.NDArray[Any], what: str) -> UInt8Array:
    """Scale floats in 0..1 to 8 bits, rounding to the nearest."""
    got = f"{array.dtype} {list(array.shape)}"
    if not np.isfinite(array).all():
        raise InputError(f"{what}: {got} holds NaN or infinity; expected floats in 0..1")
    largest, smallest, above = float(array.max()), float(array.min()), float((array > 1).mean())
    if above > 0.5 or smallest < 0:
        raise InputError(
            f"{what}: expected uint8, or floats in 0..1, got {got} with values from {smallest:.6g} to {largest:.6g}; "
            "scale them, or convert them to uint8"
        )
    if above:
        logger.warning("%s: floats above 1 are clipped (%.2f%%, the largest is %.6g)", what, 100 * above, largest)
    scaled = np.minimum(array.astype(np.float32), 1) * np.float32(255) + np.float32(0.5)
    return np.asarray(np.floor(scaled), dtype=np.uint8)


def _as_array(value: ArrayInput, what: str, *, picture_mode: str | None) -> npt.NDArray[Any]:
    """A numpy array of what a caller has.

    Args:
        value: as `ArrayInput`.
        what: name of the argument for messages.
        picture_mode: that PIL pictures are converted to; None where only pictures of one channel make sense.
    """
    if isinstance(value, np.ndarray) and value.dtype != np.object_:
        return value
    if isinstance(value, (list, tuple)):
        entries = [_as_array(entry, f"{what}[{index}]", picture_mode=picture_mode) for index, entry in enumerate(value)]
        if not entries:
            raise InputError(f"{what}: expected at least one frame, got an empty {type(value).__name__}")
        different = next((entry for entry in entries if entry.shape != entries[0].shape), None)
        if different is not None:
            raise InputError(
                f"{what}: expected entries of one shape, got {list(entries[0].shape)} and {list(different.shape)}"
            )
        return np.stack(entries)
    if hasattr(value, "getbands"):  # PIL, which need not be imported for it
        return _of_picture(value, what, picture_mode)
    if hasattr(value, "detach"):  # torch: of any device, also where gradients are recorded
        tensor = value.detach().cpu()
        array: npt.NDArray[Any] = (tensor.float() if tensor.is_floating_point() else tensor).numpy()
        return array
    if hasattr(value, "__array__"):
        array = np.asarray(value)
        if array.dtype != np.object_:
            return array
    raise InputError(
        f"{what}: expected an array, a tensor, or a list of these or of PIL pictures, got {type(value).__name__}"
    )


def _of_picture(picture: Any, what: str, mode: str | None) -> npt.NDArray[Any]:  # noqa: ANN401 - PIL's
    """An array of a PIL picture: 8-bit RGB, or the one channel of a mask, bool or integers."""
    eight_bits = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV")
    if mode is not None and picture.mode in eight_bits:
        return np.asarray(picture.convert(mode))
    if mode is None and picture.mode in ("1", "L", "P"):
        return np.asarray(picture)
    expected = "8-bit colors or gray" if mode is not None else "one channel, mode 1, L or P"
    raise InputError(
        f"{what}: expected a PIL picture of {expected}, got mode {picture.mode}, {picture.width}x{picture.height}; "
        "convert it"
    )


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


@dataclass(frozen=True)
class Segmentation:
    """What a method predicts of the whole object in a clip.

    Attributes:
        mask: amodal mask, bool ``[F, H, W]``; contains the modal mask.
        probability: probability that a pixel belongs to the object, float32 ``[F, H, W]`` in [0, 1].
        valid: False in frames in which the method had no evidence of the object, bool ``[F]``; the mask is empty there.
        score: confidence in the mask of a frame, float32 ``[F]`` in [0, 1].
    """

    mask: BoolArray
    probability: FloatArray
    valid: BoolArray
    score: FloatArray

    @classmethod
    def certain(cls, mask: BoolArray) -> Self:
        """What a method without probabilities predicts: the mask, for certain; empty frames are not valid.

        Args:
            mask: bool ``[F, H, W]``.
        """
        valid: BoolArray = np.asarray(mask.any(axis=(1, 2)))
        return cls(mask, mask.astype(np.float32), valid, valid.astype(np.float32))


class AmodalSegmenter(Protocol):
    """Predicts the amodal mask of a clip's object: a baseline or a model."""

    def __call__(
        self, clip: VideoClip, depth: FloatArray | None = None, *, generator: torch.Generator | None = None
    ) -> Segmentation:
        """Predict the amodal mask.

        Args:
            clip: frames and modal mask.
            depth: any scale, nearer is larger, float32 ``[F, H, W]``; None where there is none.
            generator: source of randomness; by default one with a fixed seed. A method without randomness ignores it.

        Returns:
            masks, probabilities, validity and scores of all frames.
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
        score: stage 1's score, from which the masks are cut, float32 ``[F, height, width]`` in [0, 1] at the network's
            size; of several samples the mean. 0 in frames that the network did not look at. None without stage 1.
    """

    amodal_mask: BoolArray
    amodal_rgb: UInt8Array | None = None
    rgba: UInt8Array | None = None
    samples: BoolArray | None = None
    score: FloatArray | None = None

    def save(
        self,
        path: str | Path,
        formats: str | Sequence[str] = ("png",),
        *,
        fps: float = 8.0,
        color: str = "white",
        overwrite: bool = False,
    ) -> Path:
        """Write masks and layers to a folder, in the layout of one object's folder (docs/outputs.md).

        Args:
            path: folder; must not exist, unless ``overwrite`` is set.
            formats: a sequence, or one text with commas: ``png``, ``prores``, ``webm``, ``mp4``, ``gif``,
                ``masks-mp4``, ``scores``; masks are written as PNG in any case.
            fps: frames a second of videos.
            color: behind the object in ``mp4`` and ``gif``: a CSS color name or ``#rrggbb``.
            overwrite: replace the folder if it holds nothing but files of an earlier result.

        Returns:
            the folder.

        Raises:
            InputError: if the folder exists, or with ``overwrite`` holds a file that no result has; if a format
                or color is unknown, the frame rate is out of range, or the result lacks what a format holds.
            OSError: if a file cannot be written, or a folder of this name came up meanwhile; nothing is left then.
        """
        save_result = import_module("amodal_diffusion.completion.saving").save_result  # by name, see `from_file`
        written: Path = save_result(self, path, formats, fps=fps, color=color, overwrite=overwrite)
        return written

    def __repr__(self) -> str:
        """Shape and what there is, without the arrays."""
        frames, height, width = self.amodal_mask.shape
        there = [name for name in ("amodal_rgb", "rgba", "samples", "score") if getattr(self, name) is not None]
        return f"AmodalResult({counted(frames, 'frame')} of {width}x{height}: {', '.join(['amodal_mask', *there])})"

    @property
    def probability(self) -> FloatArray:
        """Share of the samples that have a pixel, float32 ``[F, H, W]`` in [0, 1]."""
        samples = self.amodal_mask[None] if self.samples is None else self.samples
        return np.asarray(samples.mean(axis=0, dtype=np.float32))
