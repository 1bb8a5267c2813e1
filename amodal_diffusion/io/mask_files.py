"""Readers of object masks from images, label maps, videos, JSON files, or a folder of images per object."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt

from amodal_diffusion.basics import InputError
from amodal_diffusion.config import MaskType
from amodal_diffusion.frames.masks import Rle, decode_rle, rle_area
from amodal_diffusion.io.alpha import has_alpha, read_alpha
from amodal_diffusion.io.annotations import read_annotated_masks
from amodal_diffusion.io.images import SUFFIXES, davis_palette, list_pictures, natural_key
from amodal_diffusion.io.mask_arrays import ARRAY_SUFFIXES, read_mask_arrays
from amodal_diffusion.io.mask_pictures import (
    SINGLE,
    MaskPicture,
    mask_pictures,
    read_meaning,
    stays,
    wide_values,
)
from amodal_diffusion.io.pairing import pair
from amodal_diffusion.io.video_reader import ClipReader, keeps_values, open_clip
from amodal_diffusion.types import BoolArray, UInt8Array

MAX_LABELS = 64  # videos with more gray values than this are soft masks, not labels
LOSSY = (".jpg", ".jpeg", ".webp", ".avif", ".jp2", ".j2k")  # values beside those that were saved: never labels
_HALF = 3 * 255 // 2  # of the sum of red, green and blue

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class MaskTrack:
    """The masks of one object in all frames; iteration yields bool ``[H, W]``, one mask in memory at a time.

    Attributes:
        name: the object's ID.
        path: where the masks come from.
        height: pixels.
        width: pixels.
        areas: pixels inside the mask, per frame.
        kind: what the masks were read as: ``binary``, ``soft``, ``labels``, ``colors``, ``alpha`` or ``annotations``.
        names: names of the files, or the frame's number of each mask; None where masks have neither.
        positions: frames of the clip that have a mask, once :func:`fit_track` has paired them; None for all.
    """

    name: str
    path: Path
    height: int
    width: int
    areas: tuple[int, ...]
    _masks: Callable[[], Iterator[BoolArray]] = field(repr=False, compare=False)
    kind: str = "binary"
    names: tuple[str | int, ...] | None = None
    positions: tuple[int, ...] | None = None

    @property
    def num_frames(self) -> int:
        """Number of masks that iteration yields."""
        return len(self.areas)

    def __iter__(self) -> Iterator[BoolArray]:
        return self._masks()

    def at(self, positions: Sequence[int]) -> Self:
        """Select the masks at some frames.

        Args:
            positions: frame indices in increasing order, below ``num_frames``.
        """
        areas, masks, kept = self.areas, self._masks, frozenset(positions)
        return replace(
            self,
            areas=tuple(areas[position] for position in positions),
            names=None if self.names is None else tuple(self.names[position] for position in positions),
            _masks=lambda: (mask for position, mask in enumerate(masks()) if position in kept),
        )

    def cut_to(self, height: int, width: int) -> Self:
        """Crop the masks to their top left ``height`` x ``width`` pixels."""

        def masks() -> Iterator[BoolArray]:
            return (mask[:height, :width] for mask in self._masks())

        areas = tuple(int(mask.sum()) for mask in masks())
        return replace(self, height=height, width=width, areas=areas, _masks=masks)


def read_masks(
    path: str | Path, *, allow_truncated: bool = False, what: str = "masks", mask_type: MaskType | None = None
) -> dict[str, MaskTrack]:
    """Find the objects in mask files; reads every file once and keeps none.

    Args:
        path: one of

            - a folder of pictures, or one picture, animated or not. One object, "1": black and white, soft edges (cut
              at half), or alpha. Several: labels, which are gray values up to 255 that have regions wider than two
              pixels and stay for more than a frame; or the colors of a palette.
            - a video: one object, "1", cut at half, or its alpha; or labels, where its codec keeps every value.
            - a NumPy file, see :func:`~amodal_diffusion.io.mask_arrays.read_mask_arrays`.
            - a JSON file of this clip, see `read_annotated_masks`.
            - a folder of folders of pictures: one object each, named as its folder. Folders that hold a folder
              ``amodal_masks``, as this package writes them, stand for that.
        allow_truncated: take the frames that decode from a mask video that is damaged.
        what: name of the argument for messages.
        mask_type: what the values of pictures and videos mean; decided by the files when None.

    Returns:
        maps the names of the objects, in natural order, to their masks.

    Raises:
        InputError: if there are no masks, a file cannot be read, or the masks of one object differ in size.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"{what}: {path}: no such file or folder")
    if not path.is_dir():
        suffix = path.suffix.lower()
        if suffix in SUFFIXES:
            return _from_pictures(path, [path], what, mask_type)
        if suffix == ".json":
            return _from_annotations(path, what)
        if suffix in ARRAY_SUFFIXES:
            return _from_arrays(path, what)
        return _from_video(path, what, mask_type, allow_truncated=allow_truncated)
    pictures = list_pictures(path)
    folders = [entry for entry in path.iterdir() if entry.is_dir() and entry.name[0] not in "._@"]
    if pictures and folders:
        raise InputError(
            f"{what}: {path}: holds both pictures and folders; expected one object's or a folder an object"
        )
    if pictures:
        return _from_pictures(path, pictures, what, mask_type)
    if not folders:
        raise InputError(
            f"{what}: {path}: no masks in this folder; looked for {' '.join(SUFFIXES)} and folders of them"
        )
    named = sorted(folders, key=lambda entry: natural_key(entry.name))
    return {folder.name: _one_object(folder, what, mask_type) for folder in named}


def fit_track(track: MaskTrack, clip: ClipReader, *, what: str) -> MaskTrack:
    """Check that a mask track matches a clip in number of frames and size.

    Args:
        track: masks of one object.
        clip: the frames.
        what: name of the argument, for error messages.

    Returns:
        the track, without the masks of frames that a damaged clip has lost; its ``positions`` are set if only every
        n-th frame has a mask.

    Raises:
        InputError: if masks and frames do not pair (see :func:`~amodal_diffusion.io.pairing.pair`) or sizes differ.
    """
    if clip.positions is not None and track.num_frames > clip.positions[-1]:
        if track.num_frames > clip.num_frames:
            logger.warning(
                "%s: %s: %d of %d masks are used, those of frames that decode",
                what,
                track.path,
                clip.num_frames,
                track.num_frames,
            )
        track = track.at(clip.positions)
    files = getattr(clip, "files", ())  # of a folder of pictures
    frames = [file.name for file in files] if len(files) == clip.num_frames > 1 else clip.num_frames
    try:
        paired = pair(frames, track.num_frames if track.names is None else track.names)
    except InputError as error:
        raise InputError(f"{what}: {track.path}: {error}") from error
    if paired.notice:
        logger.warning("%s: %s: %s", what, track.path, paired.notice)
    track = replace(track, positions=paired.positions)
    size, wanted = (track.height, track.width), (clip.height, clip.width)
    if size != wanted and size == (clip.height + clip.height % 2, clip.width + clip.width % 2):
        return track.cut_to(*wanted)  # a mask video of this package, padded to even sides
    if size != wanted:
        raise InputError(
            f"{what}: {track.path}: masks of {track.width}x{track.height} pixels for frames of "
            f"{clip.width}x{clip.height}; give masks of the frames' size"
        )
    return track


def _from_pictures(path: Path, files: Sequence[Path], what: str, mask_type: MaskType | None) -> dict[str, MaskTrack]:
    """Decide by all pictures together what their values mean."""

    def pictures() -> Iterator[MaskPicture]:
        return (picture for file in files for picture in mask_pictures(file))

    sizes: list[tuple[int, int]] = []

    def measured() -> Iterator[MaskPicture]:
        for picture in pictures():
            sizes.append((picture.values.shape[0], picture.values.shape[1]))
            if sizes[-1] != sizes[0]:
                file = files[len(sizes) - 1] if len(files) > 1 else path
                raise InputError(
                    f"{what}: {file}: {sizes[-1][1]}x{sizes[-1][0]} pixels, {files[0].name} has "
                    f"{sizes[0][1]}x{sizes[0][0]}; all masks of a clip must have one size"
                )
            yield picture

    lossy = any(file.suffix.lower() in LOSSY for file in files)
    reading = read_meaning(measured, mask_type=mask_type, lossy=lossy)
    if reading.notice:
        logger.warning("%s: %s: %s", what, path, reading.notice)
    if len(files) > 1 and len(sizes) != len(files):
        raise InputError(f"{what}: {path}: {len(files)} files with {len(sizes)} frames; give files of one frame each")
    names = tuple(file.name for file in files) if len(files) > 1 else None
    return {
        item.name: MaskTrack(
            item.name,
            path,
            *sizes[0],
            item.areas,
            lambda item=item: map(item.select, pictures()),  # type: ignore[misc]  # bound per object
            kind=reading.kind,
            names=names,
        )
        for item in sorted(reading.objects, key=lambda item: natural_key(item.name))
    }


def _from_arrays(path: Path, what: str) -> dict[str, MaskTrack]:
    return {
        name: MaskTrack(
            name,
            path,
            masks.shape[1],
            masks.shape[2],
            tuple(int(mask.sum()) for mask in masks),
            lambda masks=masks: iter(masks),  # type: ignore[misc]  # bound per object
        )
        for name, masks in read_mask_arrays(path, what=what).items()
    }


def _one_object(folder: Path, what: str, mask_type: MaskType | None) -> MaskTrack:
    source = folder / "amodal_masks" if (folder / "amodal_masks").is_dir() else folder
    files = list_pictures(source)
    if not files:
        raise InputError(f"{what}: {source}: no masks in this folder; looked for {' '.join(SUFFIXES)}")
    tracks = _from_pictures(source, files, what, mask_type)
    if len(tracks) > 1:
        raise InputError(
            f"{what}: {source}: holds labels {', '.join(tracks)}; in a folder of folders each holds one object"
        )
    return replace(next(iter(tracks.values())), name=folder.name)


def _from_annotations(path: Path, what: str) -> dict[str, MaskTrack]:
    read = read_annotated_masks(path, what=what, single=SINGLE)
    size = (read.height, read.width)

    def track(name: str, coded: Sequence[Rle | None]) -> MaskTrack:
        areas = tuple(0 if rle is None else rle_area(rle) for rle in coded)
        masks = lambda: (np.zeros(size, np.bool_) if rle is None else decode_rle(rle) for rle in coded)  # noqa: E731
        return MaskTrack(name, path, *size, areas, masks, kind="annotations", names=read.names)

    return {name: track(name, coded) for name, coded in read.objects.items()}


def _from_video(path: Path, what: str, mask_type: MaskType | None, *, allow_truncated: bool) -> dict[str, MaskTrack]:
    clip = open_clip(path, allow_truncated=allow_truncated)
    alpha = _alpha_track(clip, what) if mask_type in (None, "alpha") and has_alpha(path) else None
    if alpha is not None:
        return {SINGLE: alpha}
    if mask_type == "alpha":
        raise InputError(
            f"{what}: {path}: --mask-type alpha: expected a video with alpha that is not opaque throughout"
        )
    wanted = mask_type == "labels" or (mask_type is None and keeps_values(path))
    survey = survey_labels(clip, most=MAX_LABELS, checked=mask_type is None) if wanted else None
    if survey is not None:
        return {name: _label_track(name, color, clip, survey) for color, name in survey.names.items()}

    def brightness() -> Iterator[npt.NDArray[np.uint16]]:
        return (frame.sum(axis=-1, dtype=np.uint16) for frame in clip)

    areas, between = [], 0
    for values in brightness():
        areas.append(int((values > _HALF).sum()))
        between += int(((values > _HALF // 2) & (values <= _HALF * 3 // 2)).sum())
    if between > sum(areas):
        logger.warning(
            "%s: %s: mostly gray, read as one object cut at half; labels would have to be saved without loss (FFV1)",
            what,
            path,
        )

    return {
        SINGLE: MaskTrack(
            SINGLE, path, clip.height, clip.width, tuple(areas), lambda: (values > _HALF for values in brightness())
        )
    }


def _alpha_track(clip: ClipReader, what: str) -> MaskTrack | None:
    """The alpha of a video, cut at half; None if it is opaque throughout."""
    areas, opaque = [], True
    for alpha in read_alpha(clip.path):
        areas.append(int((alpha > 127).sum()))
        opaque = opaque and bool((alpha == 255).all())
    if opaque:
        return None
    logger.warning("%s: %s: the alpha channel is the mask, cut at half", what, clip.path)
    masks = lambda: (alpha > 127 for alpha in read_alpha(clip.path))  # noqa: E731 - one line, used once
    return MaskTrack(SINGLE, clip.path, clip.height, clip.width, tuple(areas), masks, kind="alpha")


def _label_track(name: str, color: int, clip: ClipReader, survey: LabelSurvey) -> MaskTrack:
    areas = tuple(counts.get(color, 0) for counts in survey.counts)
    return MaskTrack(
        name,
        clip.path,
        clip.height,
        clip.width,
        areas,
        lambda: (packed(frame) == color for frame in clip),
        kind="labels",
    )


Colors = npt.NDArray[np.uint32]


@dataclass(frozen=True)
class LabelSurvey:
    """Label colors of a mask video.

    Attributes:
        counts: for each frame, maps a packed color to its number of pixels; black is background and not counted.
        names: maps a packed color to the name of its object.
    """

    counts: tuple[dict[int, int], ...]
    names: dict[int, str]


def survey_labels(clip: ClipReader, *, most: int, checked: bool = True) -> LabelSurvey | None:
    """Read a video through for its labels.

    A gray value is its own label. Colors of the DAVIS palette get their DAVIS label. Any other colors are numbered from
    1 in the order of appearance.

    Args:
        clip: of a codec that keeps every value.
        most: largest number of values, background included, that is taken for labels.
        checked: take values for labels only if each has a region wider than two pixels and stays for more than a frame.

    Returns:
        the labels, or None if the video has more values, is empty, or is a black and white mask of one object.
    """
    counts: list[dict[int, int]] = []
    seen: dict[int, None] = {}  # in the order in which they come
    wide: set[int] = set()
    for frame in clip:
        colors = packed(frame)
        wide |= wide_values(colors)
        values, numbers = np.unique(colors, return_counts=True)
        found = {int(value): int(number) for value, number in zip(values, numbers, strict=True) if value}
        counts.append(found)
        seen.update(dict.fromkeys(found))
        if len(seen) >= most:
            return None
    if not seen or set(seen) in ({0x010101}, {0xFFFFFF}):
        return None
    if checked and not all(color in wide and stays([color in found for found in counts]) for color in seen):
        return None
    return LabelSurvey(tuple(counts), _names(list(seen)))


def packed(rgb: UInt8Array) -> Colors:
    """Pack uint8 ``[H, W, 3]`` colors into uint32 ``[H, W]`` as ``0xRRGGBB``."""
    wide = rgb.astype(np.uint32)
    return np.asarray((wide[..., 0] << 16) | (wide[..., 1] << 8) | wide[..., 2], dtype=np.uint32)


def _names(colors: list[int]) -> dict[int, str]:
    if all(color % 0x010101 == 0 for color in colors):
        return {color: str(color // 0x010101) for color in sorted(colors)}
    palette = {int(color): label for label, color in enumerate(packed(davis_palette()[None])[0])}
    if all(color in palette for color in colors):
        return {color: str(palette[color]) for color in sorted(colors, key=palette.__getitem__)}
    return {color: str(number) for number, color in enumerate(colors, start=1)}
