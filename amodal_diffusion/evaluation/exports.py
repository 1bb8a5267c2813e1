"""Predicted masks in the formats of other tools: COCO JSON, YouTube-VIS JSON, and pictures as DAVIS has them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

import numpy as np
from PIL import Image

from amodal_diffusion.data.records import TrackRecord, bounding_box
from amodal_diffusion.types import BoolArray, InputError
from amodal_diffusion.video.masks import encode_rle

Format = Literal["coco", "youtube-vis", "davis"]
FORMATS: tuple[Format, ...] = get_args(Format)
EXPORT_NAMES: dict[Format, str] = {"coco": "coco.json", "youtube-vis": "youtube_vis.json", "davis": "davis"}
"""File or folder of each format."""
DAVIS_COLOUR = (128, 0, 0)
"""Colour of the first object in DAVIS's palette."""


class Export(Protocol):
    """A file or folder that is written track by track."""

    def add(self, record: TrackRecord, masks: BoolArray) -> None:
        """Write a track's predicted amodal masks, bool ``[F, H, W]``."""

    def close(self) -> None:
        """Finish the file."""


def read_formats(text: str) -> list[Format]:
    """Formats of a list with commas.

    Raises:
        InputError: if one is unknown.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    wrong = sorted(set(names) - set(FORMATS))
    if wrong:
        raise InputError(f"export: expected {', '.join(FORMATS)}, got {', '.join(wrong)}")
    return [name for name in FORMATS if name in names]


def open_export(name: Format, folder: Path) -> Export:
    """Begin an export under its usual name.

    Args:
        name: the format.
        folder: is there.
    """
    writers: dict[Format, Callable[[Path], Export]] = {
        "coco": CocoExport, "youtube-vis": YoutubeVisExport, "davis": DavisExport
    }  # fmt: skip
    return writers[name](folder / EXPORT_NAMES[name])


def exported_files(formats: Sequence[Format], records: Callable[[], Iterable[TrackRecord]]) -> list[str]:
    """What exports are going to write, relative to their folder.

    Args:
        formats: of the exports.
        records: gives the tracks; asked only where a format has files of its own for each.
    """
    files = [EXPORT_NAMES[name] for name in formats if name != "davis"]
    if "davis" in formats:
        videos = Videos()
        for record in records():
            files += [f"{EXPORT_NAMES['davis']}/{name}" for name in davis_names(record, videos)]
    return files


class Videos:
    """Numbers the clips of an annotation file in the order in which they come, from 1."""

    def __init__(self) -> None:
        """Begin with none."""
        self._numbers: dict[tuple[str, ...], int] = {}

    def number(self, record: TrackRecord) -> int:
        """Number of a track's clip; tracks of the same frames share one."""
        return self._numbers.setdefault(record.image_file_names, len(self._numbers) + 1)


class CocoExport:
    """A COCO file: an annotation for each frame that has a mask, with the object's number as ``track_id``."""

    def __init__(self, path: Path) -> None:
        """Begin the file."""
        self._file = _AnnotationFile(path)
        self._images: dict[int, dict[str, object]] = {}

    def add(self, record: TrackRecord, masks: BoolArray) -> None:
        """See `Export`."""
        height, width = record.size
        for image, name, mask in zip(record.image_ids, record.image_file_names, masks, strict=True):
            self._images[image] = {"id": image, "file_name": name, "height": height, "width": width}
            if mask.any():
                self._file.add(
                    record.category_id,
                    image_id=image,
                    track_id=record.obj_id,
                    segmentation=encode_rle(mask),
                    bbox=bounding_box(mask),
                    area=int(mask.sum()),
                )

    def close(self) -> None:
        """See `Export`."""
        self._file.close({"images": list(self._images.values())})


class YoutubeVisExport:
    """A YouTube-VIS file: an annotation for each track, null where a frame has no mask."""

    def __init__(self, path: Path) -> None:
        """Begin the file."""
        self._file = _AnnotationFile(path)
        self._numbers = Videos()
        self._videos: dict[int, dict[str, object]] = {}

    def add(self, record: TrackRecord, masks: BoolArray) -> None:
        """See `Export`."""
        height, width = record.size
        video = self._numbers.number(record)
        names = list(record.image_file_names)
        self._videos[video] = {"id": video, "file_names": names, "length": len(names), "height": height, "width": width}
        shown = [bool(mask.any()) for mask in masks]
        self._file.add(
            record.category_id,
            video_id=video,
            track_id=record.obj_id,
            height=height,
            width=width,
            segmentations=[encode_rle(mask) if any_ else None for mask, any_ in zip(masks, shown, strict=True)],
            bboxes=[bounding_box(mask) if any_ else None for mask, any_ in zip(masks, shown, strict=True)],
            areas=[int(mask.sum()) if any_ else None for mask, any_ in zip(masks, shown, strict=True)],
        )

    def close(self) -> None:
        """See `Export`."""
        self._file.close({"videos": list(self._videos.values())})


class DavisExport:
    """Palette pictures ``VIDEO/OBJECT/00000.png``, 0 and 1: whole objects overlap, so that each has its own folder."""

    def __init__(self, folder: Path) -> None:
        """Name the folder."""
        self._folder = folder
        self._videos = Videos()

    def add(self, record: TrackRecord, masks: BoolArray) -> None:
        """See `Export`."""
        for name, mask in zip(davis_names(record, self._videos), masks, strict=True):
            path = self._folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            picture = Image.fromarray(mask.astype(np.uint8))
            picture.putpalette((0, 0, 0, *DAVIS_COLOUR))  # a palette picture from here on
            picture.save(path)

    def close(self) -> None:
        """See `Export`."""


def davis_names(record: TrackRecord, videos: Videos) -> Iterator[str]:
    """Relative paths of a track's pictures, in the order of its frames.

    Args:
        record: the track.
        videos: has numbered the tracks before it.
    """
    video = videos.number(record)
    for frame in range(record.num_frames):
        yield f"{video:05d}/{record.obj_id}/{frame:05d}.png"


class _AnnotationFile:
    """A JSON object whose annotations are written as they come, and the rest at the end."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w", encoding="utf-8")
        self._file.write('{"annotations": [')
        self._categories: set[int] = set()
        self._written = 0

    def add(self, category: int, **entry: Any) -> None:  # noqa: ANN401 - the formats' own keys
        self._file.write(",\n" if self._written else "\n")
        self._written += 1
        self._categories.add(category)
        common = {"id": self._written, "category_id": category, "iscrowd": 0, "score": 1.0}
        json.dump(common | entry, self._file, separators=(",", ":"))

    def close(self, rest: Mapping[str, object]) -> None:
        categories = [{"id": number, "name": str(number)} for number in sorted(self._categories)]
        text = json.dumps({**rest, "categories": categories})
        self._file.write(f"\n],\n{text[1:]}\n")
        self._file.close()
