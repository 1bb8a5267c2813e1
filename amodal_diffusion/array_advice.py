"""What to do about arrays of a wrong shape, by the layouts that other libraries have."""

from __future__ import annotations

from collections.abc import Sequence

_LARGEST_LABEL = 31  # values up to this are taken for numbers of objects, larger ones for levels of a soft mask


def frames_advice(shape: Sequence[int], what: str) -> str:
    """What makes ``[F, H, W, 3]`` of frames.

    Args:
        shape: of what was given.
        what: name of the argument.
    """
    if len(shape) == 3:
        gray = f"repeat a gray channel: np.repeat({what}[..., None], 3, -1)"
        return "give a single frame as frame[None]" if shape[-1] == 3 else gray
    if len(shape) == 4 and shape[-1] == 4:
        return f"drop alpha: {what}[..., :3]"
    if len(shape) == 4 and shape[-1] == 1:
        return f"repeat the gray channel: np.repeat({what}, 3, -1)"
    if len(shape) == 4 and shape[0] == 3 and shape[-1] != 3:
        return f"move the axis of channels: np.moveaxis({what}, 0, -1)"
    if len(shape) == 4 and shape[1] in (1, 4):
        return f"repeat the gray channel: np.repeat({what}, 3, 1)" if shape[1] == 1 else f"drop alpha: {what}[:, :3]"
    return "convert the frames to 8-bit RGB"


def masks_advice(shape: Sequence[int], what: str) -> str:
    """What makes ``[F, H, W]`` of masks of one object, see :func:`frames_advice`."""
    return f"drop the last axis: {what}[..., 0]" if len(shape) == 4 and shape[-1] == 1 else "give one mask a frame"


def object_masks_advice(shape: Sequence[int], what: str, num_frames: int) -> str | None:
    """What makes ``[O, F, H, W]`` of masks; None if they may be that.

    Args:
        shape: of four axes.
        what: name of the argument.
        num_frames: F.
    """
    if shape[1] == num_frames or shape[0] != num_frames:
        return None
    return masks_advice(shape, what) if shape[-1] == 1 else f"objects come first: {what}.transpose(1, 0, 2, 3)"


def depth_advice(shape: Sequence[int], what: str) -> str:
    """What makes ``[F, H, W]`` of depth, see :func:`frames_advice`."""
    if len(shape) == 4 and shape[-1] == 1:
        return f"drop the last axis: {what}[..., 0]"
    return "give one map a frame" + (", which all objects share" if len(shape) == 4 else "")


def values_advice(largest: int) -> str:
    """What makes masks of one object of integers with several values.

    Args:
        largest: of the values.
    """
    if largest <= _LARGEST_LABEL:
        return f"if each value is an object, call with labels=True, or give mask == {largest} for one of them"
    return "give mask > 127 where it is a soft mask; a call with labels=True takes each value for an object"
