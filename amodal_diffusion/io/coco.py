"""Masks in the forms of COCO (run lengths, polygons), and COCO and YouTube-VIS files that are written."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco

from amodal_diffusion.basics import InputError
from amodal_diffusion.frames.masks import MAX_PIXELS, Rle, check_rle, decode_rle, encode_rle, rle_area, rle_box
from amodal_diffusion.types import BoolArray

FARTHEST = 10_000_000
"""Pixels; a polygon or a box with larger coordinates is no polygon or box."""
SLIVERS = "%s: %d polygons of fewer than three points are left out (or of an odd number of coordinates)"
"""Notice; the file, and what `count_slivers` found in it."""
_LONGEST = 2_000_000  # pixels of an outline, for each of which pycocotools takes about 100 bytes
_SMALLEST_POLYGON = 6  # numbers, two a point


def read_coco_mask(value: object, height: int, width: int) -> Rle | None:
    """Convert a COCO segmentation to compressed RLE, without decoding it.

    Args:
        value: ``{size, counts}`` with counts as text or as a list of runs, a list of polygons ``[x1, y1, x2, y2, ...]``
            whose union is meant, or None. What lies outside the frame is cut off. Polygons of fewer than three points,
            or of an odd number of coordinates, are left out, see `count_slivers`.
        height: pixels of the frame.
        width: pixels of the frame.

    Returns:
        the RLE, or None if the segmentation is None or an empty list.

    Raises:
        InputError: if the value has another format, its size differs from the frame's, or coordinates are no pixels.
    """
    if not (height > 0 and width > 0 and height * width <= MAX_PIXELS):
        raise InputError(f"expected a frame of 1 to {MAX_PIXELS:,} pixels, got {width} x {height}")
    if value is None or value == []:
        return None
    if isinstance(value, dict):
        return _from_runs(value, height, width)
    if isinstance(value, list) and all(map(_is_polygon, value)):
        pieces = [_checked(piece) for piece in value if not _is_sliver(piece)]
        return _packed(coco.merge(coco.frPyObjects(pieces, height, width))) if pieces else None
    raise InputError(f"expected run lengths {{size: [H, W], counts}} or polygons [[x1, y1, ...]], got {value!r:.60}")


def count_slivers(value: object) -> int:
    """Count the polygons in a mask or a list of masks that reading leaves out, as they have no area or are damaged."""
    count = 0
    for piece in value if isinstance(value, list) else ():
        if _is_polygon(piece):
            count += _is_sliver(piece)
        else:
            count += count_slivers(piece)
    return count


def decode_coco_mask(value: object, height: int, width: int) -> BoolArray:
    """Decode a COCO segmentation; arguments as for `read_coco_mask`.

    Returns:
        bool ``[H, W]``; all False where `read_coco_mask` returns None.

    Raises:
        InputError: as `read_coco_mask`, or if the runs do not add up to ``H * W``.
    """
    rle = read_coco_mask(value, height, width)
    return np.zeros((height, width), dtype=np.bool_) if rle is None else decode_rle(rle)


def may_be_visible(value: object, height: int, width: int) -> bool:
    """Whether a COCO segmentation has any pixel; True for a damaged one, so that decoding reports the damage."""
    try:
        rle = read_coco_mask(value, height, width)
        if rle is not None:
            check_rle(rle)
    except InputError:
        return True
    return rle is not None and rle_area(rle) > 0


def _from_runs(value: dict[str, Any], height: int, width: int) -> Rle:
    size, counts = value.get("size"), value.get("counts")
    if size != [height, width]:
        raise InputError(f"expected run lengths of size [{height}, {width}] as the frame's, got {size!r:.40}")
    if isinstance(counts, str):
        return {"size": [height, width], "counts": counts}
    if not isinstance(counts, list) or not all(isinstance(run, int) and run >= 0 for run in counts):
        raise InputError(f"expected counts that are text or a list of runs, got {counts!r:.60}")
    if sum(counts) != height * width:
        raise InputError(f"expected runs that fill {height} x {width} = {height * width} pixels, got {sum(counts)}")
    return _packed(coco.frPyObjects({"size": size, "counts": counts}, height, width))


def _packed(coded: dict[str, Any]) -> Rle:
    return {"size": [int(side) for side in coded["size"]], "counts": coded["counts"].decode("ascii")}


def _is_polygon(value: object) -> bool:
    """Whether it is a list of numbers; so is an empty one."""
    return isinstance(value, list) and all(isinstance(number, int | float) for number in value)


def _is_sliver(piece: Sequence[float]) -> bool:
    """Whether a polygon has fewer than three points, or the half of a point."""
    return len(piece) < _SMALLEST_POLYGON or len(piece) % 2 == 1


def _checked(piece: Sequence[float]) -> Sequence[float]:
    """A polygon that pycocotools can fill: it takes memory by the length of the outline, and cuts it off at the frame.

    Raises:
        InputError: if a coordinate is not finite or far from any frame, or the outline is longer than any.
    """
    try:
        points: npt.NDArray[np.float64] = np.array(piece, dtype=np.float64).reshape(-1, 2)
    except OverflowError:
        points = np.full((1, 2), np.inf)
    if not (np.abs(points) <= FARTHEST).all():
        raise InputError(f"expected polygons in pixels of the frame, got coordinates beyond {FARTHEST:,}")
    if (length := np.abs(points - np.roll(points, 1, axis=0)).max(axis=1).sum()) > _LONGEST:
        raise InputError(f"expected polygons in pixels of the frame, got an outline of {length:,.0f} pixels")
    return piece


@dataclass(frozen=True)
class AnnotatedTrack:
    """Metadata of one object of a clip in an annotation file.

    Attributes:
        number: ``track_id`` of the object, unique within its clip.
        category: ``category_id`` of the object.
        category_name: name of the category.
        video: ``video_id`` of the clip.
        image_ids: ``image_id`` of each frame, unique across clips.
        file_names: file name of each frame.
        height: height of a frame in pixels.
        width: width of a frame in pixels.
        name: name of the object; None if it has only its number.
    """

    number: int
    category: int
    category_name: str
    video: int
    image_ids: Sequence[int]
    file_names: Sequence[str]
    height: int
    width: int
    name: str | None = None

    @property
    def keys(self) -> dict[str, object]:
        """Keys that identify the object in its annotations, the same in both formats."""
        named = {} if self.name is None else {"name": self.name}
        return {"track_id": self.number, **named}


class CocoFile:
    """Writer of a COCO file: one annotation per object and frame with a nonempty mask."""

    def __init__(self, path: Path) -> None:
        """Open the file; an existing one is overwritten."""
        self._file = _AnnotationFile(path)
        self._images: dict[int, dict[str, object]] = {}

    def add(self, track: AnnotatedTrack, masks: Iterable[BoolArray]) -> None:
        """Write the masks of one object.

        Args:
            track: metadata of the object.
            masks: bool ``[H, W]``, one per frame.
        """
        for image, name, mask in zip(track.image_ids, track.file_names, masks, strict=True):
            self._images[image] = {"id": image, "file_name": name, "height": track.height, "width": track.width}
            rle = encode_rle(mask)
            if area := rle_area(rle):
                self._file.add(track, image_id=image, segmentation=rle, bbox=rle_box(rle), area=area)

    def close(self) -> None:
        """Write the image list and close the file."""
        self._file.close({"images": list(self._images.values())})


class YoutubeVisFile:
    """Writer of a YouTube-VIS file: one annotation per object, with null for frames whose mask is empty."""

    def __init__(self, path: Path) -> None:
        """Open the file; an existing one is overwritten."""
        self._file = _AnnotationFile(path)
        self._videos: dict[int, dict[str, object]] = {}

    def add(self, track: AnnotatedTrack, masks: Iterable[BoolArray]) -> None:
        """Write the masks of one object; arguments as for `CocoFile.add`."""
        size = {"height": track.height, "width": track.width}
        names = list(track.file_names)
        self._videos[track.video] = {"id": track.video, "file_names": names, "length": len(names), **size}
        rles = [encode_rle(mask) for mask in masks]
        areas = [rle_area(rle) for rle in rles]
        self._file.add(
            track,
            video_id=track.video,
            **size,
            segmentations=[rle if area else None for rle, area in zip(rles, areas, strict=True)],
            bboxes=[rle_box(rle) if area else None for rle, area in zip(rles, areas, strict=True)],
            areas=[area or None for area in areas],
        )

    def close(self) -> None:
        """Write the video list and close the file."""
        self._file.close({"videos": list(self._videos.values())})


class _AnnotationFile:
    """A JSON file that streams its annotations to disk; its other keys are written on close."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w", encoding="utf-8")
        self._file.write('{"annotations": [')
        self._categories: dict[int, str] = {}
        self._written = 0

    def add(self, track: AnnotatedTrack, **entry: Any) -> None:  # noqa: ANN401 - the formats' own keys
        self._file.write(",\n" if self._written else "\n")
        self._written += 1
        self._categories[track.category] = track.category_name
        common = {"id": self._written, "category_id": track.category, "iscrowd": 0, "score": 1.0, **track.keys}
        json.dump(common | entry, self._file, separators=(",", ":"))

    def close(self, rest: Mapping[str, object]) -> None:
        categories = [{"id": number, "name": self._categories[number]} for number in sorted(self._categories)]
        text = json.dumps({**rest, "categories": categories})
        self._file.write(f"\n],\n{text[1:]}\n")
        self._file.close()
