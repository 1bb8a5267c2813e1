"""Depth maps of a clip, as a folder of 16-bit PNG files or one NumPy array; larger values are nearer."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from io import BytesIO
from itertools import chain
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from amodal_diffusion.basics import InputError
from amodal_diffusion.frames.cuts import shots_of
from amodal_diffusion.io.images import list_pictures, read_integers
from amodal_diffusion.io.numpy_files import load_arrays
from amodal_diffusion.io.video_reader import ClipReader
from amodal_diffusion.types import FloatArray

Values = npt.NDArray[np.number]
_LONG_SIDE = 336  # pixels; estimated depth is smooth, and the networks downsample it by eight


@dataclass(frozen=True)
class DepthTrack:
    """Depth maps of a clip, in any unit, larger is nearer.

    Iteration yields float32 ``[H, W]``, with one map in memory at a time.

    Attributes:
        path: source file or folder.
        num_frames: number of maps that iteration yields.
        height: height of a map in pixels.
        width: width of a map in pixels.
        limits: smallest and largest value over the clip.
        ranges: smallest and largest value of each map.
    """

    path: Path
    num_frames: int
    height: int
    width: int
    limits: tuple[float, float]
    ranges: tuple[tuple[float, float], ...]
    _maps: Callable[[], Iterator[FloatArray]] = field(repr=False, compare=False)

    def __iter__(self) -> Iterator[FloatArray]:
        return self._maps()

    def shot_limits(self, cuts: Sequence[int]) -> list[tuple[float, float]]:
        """Smallest and largest value over the shot of each frame.

        Args:
            cuts: first frames of new shots; without any these are the limits of the clip.
        """
        if not cuts:
            return [self.limits] * self.num_frames
        found: list[tuple[float, float]] = []
        for start, stop in shots_of(self.num_frames, cuts):
            lows, highs = zip(*self.ranges[start:stop], strict=True)
            found += [(min(lows), max(highs))] * (stop - start)
        return found


def open_depth(path: str | Path, *, inverse: bool = False) -> DepthTrack:
    """Open depth files; every map is read once to find the range of values.

    Args:
        path: a folder of one-channel PNG files, or an ``.npy`` file ``[F, H, W]``.
        inverse: the values are distances (metric depth), and the reader returns their inverse. A distance of 0 means
            "not measured" and becomes infinitely far.

    Raises:
        InputError: if there is no depth, sizes differ, a value is not finite, or a distance is negative.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"depth: {path}: no such file or folder")
    stored = _from_pictures(path) if path.is_dir() else _from_array(path)

    def maps() -> Iterator[FloatArray]:
        for values in stored():
            yield _nearness(values, path) if inverse else values.astype(np.float32)

    sizes: list[tuple[int, ...]] = []
    ranges: list[tuple[float, float]] = []
    for index, values in enumerate(maps()):
        if not np.isfinite(values).all():
            raise InputError(f"depth: {path}: frame {index} holds NaN or infinity; fill it, or see --depth-inverse")
        if sizes and values.shape != sizes[0]:
            raise InputError(f"depth: {path}: frame {index} is {list(values.shape)}, the first is {list(sizes[0])}")
        sizes.append(values.shape)
        ranges.append((float(values.min()), float(values.max())))
    return DepthTrack(path, len(sizes), sizes[0][0], sizes[0][1], _joint(ranges), tuple(ranges), maps)


def read_depth(path: str | Path, *, inverse: bool = False) -> FloatArray:
    """Read all depth maps of a clip into memory.

    Args:
        path: as for :func:`open_depth`.
        inverse: as for :func:`open_depth`.

    Returns:
        float32 ``[F, H, W]``, larger is nearer, in the file's unit or its inverse.

    Raises:
        InputError: as :func:`open_depth`.
    """
    return np.stack(list(open_depth(path, inverse=inverse)))


def fit_depth(depth: DepthTrack, clip: ClipReader) -> DepthTrack:
    """Check that depth maps match a clip in number and size.

    Args:
        depth: one map per frame of the clip, or per frame before a damaged clip lost some.
        clip: the frames.

    Returns:
        the depth, without the maps of frames that a damaged clip has lost.

    Raises:
        InputError: if the number of frames or the size differs.
    """
    if clip.positions is not None and depth.num_frames > clip.positions[-1]:
        maps, kept = depth._maps, frozenset(clip.positions)
        depth = replace(
            depth,
            num_frames=len(kept),
            ranges=tuple(depth.ranges[position] for position in clip.positions),
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


@dataclass(frozen=True)
class SmallDepthFile:
    """Temporary file of estimated depth, downsampled to a long side of at most 336 pixels.

    Attributes:
        path: an ``.npy`` file.
        num_frames: number of frames of the clip.
        height: height of the clip in pixels.
        width: width of the clip in pixels.
    """

    path: Path
    num_frames: int
    height: int
    width: int

    def count(self) -> int:
        """Number of complete maps that an earlier run left in the file, counted from the first frame."""
        if not self.path.is_file():
            return 0
        size = self.path.stat().st_size - len(self._header)
        return min(self.num_frames, max(0, size // self._bytes))

    def digest(self, first: int, count: int) -> str:
        """SHA-256 of maps in the file.

        Args:
            first: index of the first map.
            count: number of maps.
        """
        with self.path.open("rb") as file:
            file.seek(len(self._header) + first * self._bytes)
            return hashlib.sha256(file.read(count * self._bytes)).hexdigest()

    def write(
        self, maps: Iterable[FloatArray], *, kept: int = 0, on_batch: Callable[[int, str], None] | None = None
    ) -> None:
        """Append maps to the file.

        Args:
            maps: batches of float32 ``[n, H, W]``, in order; together they hold every missing map.
            kept: number of maps in the file to keep, at most :meth:`count`. The file is truncated after them.
            on_batch: called with the index of the first map of a batch and its :meth:`digest` once it is on the disk.
        """
        batches, place = iter(maps), kept
        first = next(batches, ())  # before the file is opened: a failed estimate creates no file
        with self.path.open("r+b" if kept else "wb") as file:  # not a memory map: a full disk would kill the process
            file.write(self._header)
            file.seek(kept * self._bytes, os.SEEK_CUR)
            file.truncate()
            for batch in chain([first], batches):
                content = b"".join(_resized(depth, self._size).astype("<f4").tobytes() for depth in batch)
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
                if on_batch is not None:
                    on_batch(place, hashlib.sha256(content).hexdigest())
                place += len(batch)

    def open(self) -> DepthTrack:
        """Open the complete file; maps are resized to the clip's size."""
        stored, size = np.load(self.path, mmap_mode="r", allow_pickle=False), (self.height, self.width)
        ranges = tuple((float(values.min()), float(values.max())) for values in stored)
        return DepthTrack(
            self.path, len(stored), *size, limits=_joint(ranges), ranges=ranges,
            _maps=lambda: (_resized(values, size) for values in stored),
        )  # fmt: skip

    @property
    def _size(self) -> tuple[int, int]:
        shrink = max(1.0, max(self.height, self.width) / _LONG_SIDE)
        return max(1, round(self.height / shrink)), max(1, round(self.width / shrink))

    @property
    def _bytes(self) -> int:
        """Size of one map in bytes."""
        return 4 * self._size[0] * self._size[1]

    @property
    def _header(self) -> bytes:
        header = BytesIO()
        shape = (self.num_frames, *self._size)
        np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": shape})
        return header.getvalue()


def _joint(ranges: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Smallest and largest value of all ranges."""
    return min(low for low, _ in ranges), max(high for _, high in ranges)


def _from_pictures(path: Path) -> Callable[[], Iterator[Values]]:
    files = list_pictures(path)
    if not files:
        raise InputError(f"depth: {path}: no pictures in this folder; expected 16-bit PNG, one a frame")
    tops: dict[int, Path] = {}

    def values() -> Iterator[Values]:
        for file in files:
            picture = read_integers(file)
            if picture.palette:
                raise InputError(f"depth: {file}: has a palette, so its values are no depth; give 16-bit gray PNG")
            tops.setdefault(picture.top, file)
            if len(tops) > 1:
                named = " and ".join(f"{one.name} up to {top}" for top, one in sorted(tops.items()))
                raise InputError(f"depth: {path}: expected one range for all maps, got {named}; give 16-bit PNG")
            yield picture.values

    return values


def _from_array(path: Path) -> Callable[[], Iterator[Values]]:
    try:
        array = load_arrays(path)
    except ValueError as error:
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
