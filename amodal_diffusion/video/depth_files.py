"""Depth of a clip from files: a folder of 16-bit PNG or one array on disk, nearer is larger."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from amodal_diffusion.types import FloatArray, InputError
from amodal_diffusion.video.io import ClipReader
from amodal_diffusion.video.pictures import list_pictures, read_integers

Values = npt.NDArray[np.number]
_LONG_SIDE = 336  # pixels; estimated depth is smooth, and the networks look at it in cells of eight


@dataclass(frozen=True)
class DepthTrack:
    """Depth of a clip, nearer is larger, any unit; iterate for float32 ``[H, W]``, one frame in memory at a time.

    Attributes:
        path: where it comes from.
        num_frames: how many maps iteration yields.
        height: pixels.
        width: pixels.
        limits: smallest and largest value over the clip.
    """

    path: Path
    num_frames: int
    height: int
    width: int
    limits: tuple[float, float]
    _maps: Callable[[], Iterator[FloatArray]] = field(repr=False, compare=False)

    def __iter__(self) -> Iterator[FloatArray]:
        return self._maps()


def open_depth(path: str | Path, *, inverse: bool = False) -> DepthTrack:
    """Open depth files; reads them once for their range and keeps none.

    Args:
        path: a folder of one-channel PNG, or an ``.npy`` file ``[F, H, W]``.
        inverse: the values are distances (metric depth): their inverse is taken, which is what depth networks give.
            A distance of 0 means "not measured" there and is taken for infinitely far.

    Raises:
        InputError: if there is no depth, sizes differ, or values are negative distances or not finite.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"depth: {path}: no such file or folder")
    stored = _from_pictures(path) if path.is_dir() else _from_array(path)

    def maps() -> Iterator[FloatArray]:
        for values in stored():
            yield _nearness(values, path) if inverse else values.astype(np.float32)

    sizes: list[tuple[int, ...]] = []
    lows: list[float] = []
    highs: list[float] = []
    for index, values in enumerate(maps()):
        if not np.isfinite(values).all():
            raise InputError(f"depth: {path}: frame {index} holds NaN or infinity; fill it, or see --depth-inverse")
        if sizes and values.shape != sizes[0]:
            raise InputError(f"depth: {path}: frame {index} is {list(values.shape)}, the first is {list(sizes[0])}")
        sizes.append(values.shape)
        lows.append(float(values.min()))
        highs.append(float(values.max()))
    return DepthTrack(path, len(sizes), sizes[0][0], sizes[0][1], (min(lows), max(highs)), maps)


def read_depth(path: str | Path, *, inverse: bool = False) -> FloatArray:
    """Read all depth of a clip into memory.

    Args:
        path: as for :func:`open_depth`.
        inverse: as for :func:`open_depth`.

    Returns:
        float32 ``[F, H, W]``, nearer is larger, in the file's unit.

    Raises:
        InputError: as :func:`open_depth`.
    """
    return np.stack(list(open_depth(path, inverse=inverse)))


def fit_depth(depth: DepthTrack, clip: ClipReader) -> DepthTrack:
    """Check that depth belongs to a clip.

    Args:
        depth: of the clip.
        clip: the frames.

    Returns:
        the depth, without the maps of frames that a damaged clip has lost.

    Raises:
        InputError: if the numbers of frames or the sizes differ; says both.
    """
    if clip.positions is not None and depth.num_frames > clip.positions[-1]:
        maps, kept = depth._maps, frozenset(clip.positions)
        depth = replace(
            depth,
            num_frames=len(kept),
            _maps=lambda: (values for position, values in enumerate(maps()) if position in kept),
        )
    if depth.num_frames != clip.num_frames:
        raise InputError(
            f"depth: {depth.path}: {depth.num_frames} maps for {clip.num_frames} frames of {clip.path}; "
            "give one map a frame"
        )
    if (depth.height, depth.width) != (clip.height, clip.width):
        raise InputError(
            f"depth: {depth.path}: maps of {depth.width}x{depth.height} pixels for frames of "
            f"{clip.width}x{clip.height}; give maps of the frames' size"
        )
    return depth


def write_small_depth(path: Path, maps: Iterable[FloatArray], *, num_frames: int, height: int, width: int) -> None:
    """Keep estimated depth on disk, at a quarter of a megabyte a frame or less, until all of the clip is estimated.

    Args:
        path: an ``.npy`` file, overwritten.
        maps: in order, float32 ``[n, H, W]`` each, together ``num_frames``.
        num_frames: of the clip.
        height: pixels.
        width: pixels.
    """
    shrink = max(1.0, max(height, width) / _LONG_SIDE)
    size = (max(1, round(height / shrink)), max(1, round(width / shrink)))
    with path.open("wb") as file:  # not through a memory map: where the disk is full, that kills the process
        header = {"descr": "<f4", "fortran_order": False, "shape": (num_frames, *size)}
        np.lib.format.write_array_header_1_0(file, header)
        for batch in maps:
            for depth in batch:
                file.write(_resized(depth, size).astype("<f4").tobytes())


def open_small_depth(path: Path, *, height: int, width: int) -> DepthTrack:
    """Open what :func:`write_small_depth` wrote, at the clip's size.

    Args:
        path: the file.
        height: pixels of the clip.
        width: pixels of the clip.
    """
    stored = np.load(path, mmap_mode="r")
    limits = (float(stored.min()), float(stored.max()))
    return DepthTrack(path, len(stored), height, width, limits, lambda: (_resized(m, (height, width)) for m in stored))


def _from_pictures(path: Path) -> Callable[[], Iterator[Values]]:
    files = list_pictures(path)
    if not files:
        raise InputError(f"depth: {path}: no pictures in this folder; expected 16-bit PNG, one a frame")
    return lambda: (read_integers(file).values for file in files)


def _from_array(path: Path) -> Callable[[], Iterator[Values]]:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"depth: {path}: expected a folder of 16-bit PNG or an .npy file, got neither") from error
    if not isinstance(array, np.ndarray) or array.ndim != 3 or array.size == 0 or array.dtype.kind not in "fiu":
        found = f"{array.dtype} {list(array.shape)}" if isinstance(array, np.ndarray) else "an archive of arrays"
        raise InputError(f"depth: {path}: expected numbers [F, H, W], got {found}")
    return lambda: iter(array)


def _nearness(distance: Values, path: Path) -> FloatArray:
    """Inverse of a distance; 0 where it is 0 or infinite."""
    values = distance.astype(np.float32)
    if (values < 0).any():
        raise InputError(f"depth: {path}: negative distances, which --depth-inverse cannot invert")
    return np.divide(1.0, values, out=np.zeros_like(values), where=values > 0)


def _resized(depth: FloatArray, size: tuple[int, int]) -> FloatArray:
    picture = Image.fromarray(np.asarray(depth, np.float32)).resize(size[::-1], Image.Resampling.BILINEAR)
    return np.asarray(picture, dtype=np.float32)
