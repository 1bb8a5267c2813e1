"""Readers of object masks from images, label maps, videos, JSON files, or a folder of images per object."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt

from amodal_diffusion.frames.masks import Rle, decode_rle, rle_area
from amodal_diffusion.io.coco import read_annotated_masks
from amodal_diffusion.io.images import (
    SUFFIXES,
    IntegerPicture,
    davis_palette,
    list_pictures,
    natural_key,
    read_integers,
)
from amodal_diffusion.io.video_reader import ClipReader, keeps_values, open_clip
from amodal_diffusion.types import BoolArray, InputError, UInt8Array

MAX_LABELS = 64  # images with more gray values than this are soft masks, not label maps
LOSSY = (".jpg", ".jpeg", ".webp")  # lossy compression changes values, so these are never label maps
SINGLE = "1"  # name of the object where the masks hold only one
_HALF = 3 * 255 // 2  # half of the largest sum of red, green and blue

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class MaskTrack:
    """The masks of one object in all frames; iteration yields bool ``[H, W]``, one mask in memory at a time.

    Attributes:
        name: the object's ID.
        path: source file or folder.
        height: height of a mask in pixels.
        width: width of a mask in pixels.
        areas: number of pixels inside the mask, per frame.
    """

    name: str
    path: Path
    height: int
    width: int
    areas: tuple[int, ...]
    _masks: Callable[[], Iterator[BoolArray]] = field(repr=False, compare=False)

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
            _masks=lambda: (mask for position, mask in enumerate(masks()) if position in kept),
        )

    def cut_to(self, height: int, width: int) -> Self:
        """Crop the masks to their top left ``height`` x ``width`` pixels."""

        def masks() -> Iterator[BoolArray]:
            return (mask[:height, :width] for mask in self._masks())

        areas = tuple(int(mask.sum()) for mask in masks())
        return replace(self, height=height, width=width, areas=areas, _masks=masks)


def read_masks(path: str | Path, *, allow_truncated: bool = False, what: str = "masks") -> dict[str, MaskTrack]:
    """Find the objects in mask files; every file is read once, and no mask is kept in memory.

    Args:
        path: one of

            - an image or a folder of images. Binary images (1-bit, {0, 1} or {0, largest value}) are one object, "1".
              A palette image, or one with at most 64 values, is a label map: each label except 0 is an object. Images
              with more gray values are a soft mask of one object, thresholded at half of the largest value.
            - a video. A lossless video may hold label maps, as above. Any other video is one object, "1", thresholded
              at half brightness.
            - a COCO or YouTube-VIS file of this clip, see `read_annotated_masks`.
            - a folder with one folder of images per object, which names the object. If such a folder contains a folder
              ``amodal_masks``, as this package writes it, the masks are read from there.
        allow_truncated: accept a damaged mask video and use the frames that decode.
        what: name of the argument, for error messages.

    Returns:
        maps the names of the objects, in natural order, to their masks.

    Raises:
        InputError: if there are no masks, a file cannot be read, or the masks of one object differ in size.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"{what}: {path}: no such file or folder")
    if not path.is_dir():
        if path.suffix.lower() in SUFFIXES:
            return _from_pictures(path, [path], what)
        if path.suffix.lower() == ".json":
            return _from_annotations(path, what)
        return _from_video(path, what, allow_truncated=allow_truncated)
    pictures = list_pictures(path)
    folders = [entry for entry in path.iterdir() if entry.is_dir() and entry.name[0] not in "._"]
    if pictures and folders:
        raise InputError(
            f"{what}: {path}: holds both pictures and folders; expected one object's or a folder an object"
        )
    if pictures:
        return _from_pictures(path, pictures, what)
    if not folders:
        raise InputError(
            f"{what}: {path}: no masks in this folder; looked for {' '.join(SUFFIXES)} and folders of them"
        )
    return {
        folder.name: _one_object(folder, what) for folder in sorted(folders, key=lambda entry: natural_key(entry.name))
    }


def fit_track(track: MaskTrack, clip: ClipReader, *, what: str) -> MaskTrack:
    """Check that a mask track matches a clip in number of frames and size.

    Args:
        track: masks of one object.
        clip: the frames.
        what: name of the argument, for error messages.

    Returns:
        the track, without the masks of frames that a damaged clip has lost, and cropped if it is a mask video that
        was padded to even sides.

    Raises:
        InputError: if the number of frames or the size differs.
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
    if track.num_frames != clip.num_frames:
        raise InputError(
            f"{what}: {track.path}: {track.num_frames} masks for {clip.num_frames} frames of {clip.path}; "
            "give one mask a frame, empty where the object is not visible"
        )
    size, wanted = (track.height, track.width), (clip.height, clip.width)
    if size != wanted and size == (clip.height + clip.height % 2, clip.width + clip.width % 2):
        return track.cut_to(*wanted)  # a mask video of this package, padded to even sides
    if size != wanted:
        raise InputError(
            f"{what}: {track.path}: masks of {track.width}x{track.height} pixels for frames of "
            f"{clip.width}x{clip.height}; give masks of the frames' size"
        )
    return track


@dataclass(frozen=True)
class _Values:
    """Histogram of the values of one mask image."""

    counts: dict[int, int]
    top: int
    palette: bool
    size: tuple[int, int]

    def above_half(self) -> int:
        return sum(count for value, count in self.counts.items() if value > self.top // 2)


def _from_pictures(path: Path, files: Sequence[Path], what: str) -> dict[str, MaskTrack]:
    """Classify images as a binary mask, label maps or a soft mask, by the values of all images together."""
    surveys = [_survey(file) for file in files]
    for file, survey in zip(files, surveys, strict=True):
        if survey.size != surveys[0].size:
            raise InputError(
                f"{what}: {file}: {survey.size[1]}x{survey.size[0]} pixels, {files[0].name} has "
                f"{surveys[0].size[1]}x{surveys[0].size[0]}; all masks of a clip must have one size"
            )

    def track(name: str, areas: list[int], select: Callable[[IntegerPicture], BoolArray]) -> MaskTrack:
        return MaskTrack(name, path, *surveys[0].size, tuple(areas), lambda: (select(read_integers(f)) for f in files))

    labels = sorted({value for survey in surveys for value in survey.counts if value})
    palette = any(survey.palette for survey in surveys)
    if not labels or (not palette and _is_binary(surveys)):
        inside = [sum(count for value, count in survey.counts.items() if value) for survey in surveys]
        return {SINGLE: track(SINGLE, inside, lambda picture: picture.values > 0)}
    lossy = any(file.suffix.lower() in LOSSY for file in files)
    if palette or (len(labels) < MAX_LABELS and not lossy):  # 0, the background, is one of the values
        return {
            str(label): track(
                str(label),
                [survey.counts.get(label, 0) for survey in surveys],
                lambda picture, label=label: picture.values == label,  # type: ignore[misc]  # bound per label
            )
            for label in labels
        }
    logger.warning("%s: %s: soft gray masks (%d values), cut at half", what, path, len(labels) + 1)
    areas = [survey.above_half() for survey in surveys]
    return {SINGLE: track(SINGLE, areas, lambda picture: picture.values > picture.top // 2)}


def _is_binary(surveys: Sequence[_Values]) -> bool:
    """Whether all images use only 0 and 1, or all use only 0 and the largest value of their format."""
    return all(survey.counts.keys() <= {0, 1} for survey in surveys) or all(
        survey.counts.keys() <= {0, survey.top} for survey in surveys
    )


def _survey(file: Path) -> _Values:
    picture = read_integers(file)
    counts = np.bincount(picture.values.ravel())
    present = np.flatnonzero(counts)
    return _Values(
        counts={int(value): int(counts[value]) for value in present},
        top=picture.top,
        palette=picture.palette,
        size=(picture.values.shape[0], picture.values.shape[1]),
    )


def _one_object(folder: Path, what: str) -> MaskTrack:
    source = folder / "amodal_masks" if (folder / "amodal_masks").is_dir() else folder
    files = list_pictures(source)
    if not files:
        raise InputError(f"{what}: {source}: no masks in this folder; looked for {' '.join(SUFFIXES)}")
    tracks = _from_pictures(source, files, what)
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
        return MaskTrack(name, path, *size, areas, masks)

    return {name: track(name, coded) for name, coded in read.objects.items()}


def _from_video(path: Path, what: str, *, allow_truncated: bool) -> dict[str, MaskTrack]:
    clip = open_clip(path, allow_truncated=allow_truncated)
    survey = survey_labels(clip, most=MAX_LABELS) if keeps_values(path) else None
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


def _label_track(name: str, color: int, clip: ClipReader, survey: LabelSurvey) -> MaskTrack:
    areas = tuple(counts.get(color, 0) for counts in survey.counts)
    return MaskTrack(
        name, clip.path, clip.height, clip.width, areas, lambda: (packed(frame) == color for frame in clip)
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


def survey_labels(clip: ClipReader, *, most: int) -> LabelSurvey | None:
    """Read a whole mask video and find its labels.

    A gray value is its own label. Colors of the DAVIS palette get their DAVIS label. Any other colors are numbered from
    1 in the order of appearance.

    Args:
        clip: a losslessly compressed video.
        most: largest number of values in a label video, including the background.

    Returns:
        the labels, or None if the video has more values, is empty, or is a black and white mask of one object.
    """
    counts: list[dict[int, int]] = []
    seen: dict[int, None] = {}  # in the order in which they come
    for frame in clip:
        values, numbers = np.unique(packed(frame), return_counts=True)
        found = {int(value): int(number) for value, number in zip(values, numbers, strict=True) if value}
        counts.append(found)
        seen.update(dict.fromkeys(found))
        if len(seen) >= most:
            return None
    if not seen or set(seen) in ({0x010101}, {0xFFFFFF}):
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
