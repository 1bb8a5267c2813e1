"""Masks of objects as COCO and YouTube-VIS JSON files, written as they come."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from amodal_diffusion.types import BoolArray
from amodal_diffusion.video.masks import encode_rle, rle_area, rle_box


@dataclass(frozen=True)
class AnnotatedTrack:
    """What the files say of an object of a clip, beside its masks.

    Attributes:
        number: of the object in its clip.
        category: number of its category.
        category_name: name of the category.
        video: number of the clip.
        image_ids: of the frames, unlike those of other clips.
        file_names: of the frames.
        height: pixels.
        width: pixels.
        name: of the object, if it has one beside its number.
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
        """What an annotation in either format says of the object."""
        named = {} if self.name is None else {"name": self.name}
        return {"track_id": self.number, **named}


class CocoFile:
    """A COCO file: an annotation for each frame that has a mask, with the object's number as ``track_id``."""

    def __init__(self, path: Path) -> None:
        """Begin the file, which is overwritten."""
        self._file = _AnnotationFile(path)
        self._images: dict[int, dict[str, object]] = {}

    def add(self, track: AnnotatedTrack, masks: Iterable[BoolArray]) -> None:
        """Write a track.

        Args:
            track: what it is.
            masks: bool ``[H, W]``, one a frame.
        """
        for image, name, mask in zip(track.image_ids, track.file_names, masks, strict=True):
            self._images[image] = {"id": image, "file_name": name, "height": track.height, "width": track.width}
            rle = encode_rle(mask)
            if area := rle_area(rle):
                self._file.add(track, image_id=image, segmentation=rle, bbox=rle_box(rle), area=area)

    def close(self) -> None:
        """Finish the file."""
        self._file.close({"images": list(self._images.values())})


class YoutubeVisFile:
    """A YouTube-VIS file: an annotation for each track, null where a frame has no mask."""

    def __init__(self, path: Path) -> None:
        """Begin the file, which is overwritten."""
        self._file = _AnnotationFile(path)
        self._videos: dict[int, dict[str, object]] = {}

    def add(self, track: AnnotatedTrack, masks: Iterable[BoolArray]) -> None:
        """Write a track, see `CocoFile.add`."""
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
        """Finish the file."""
        self._file.close({"videos": list(self._videos.values())})


class _AnnotationFile:
    """A JSON object whose annotations are written as they come, and the rest at the end."""

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
