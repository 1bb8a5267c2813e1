"""Annotation files in the SAIL-VOS sequence layout: one record per track, checked on reading."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np

from amodal_diffusion.basics import InputError
from amodal_diffusion.frames.masks import Rle, decode_rle, encode_rle
from amodal_diffusion.io.json_files import load_json
from amodal_diffusion.types import BoolArray

Box = tuple[float, float, float, float]
"""x, y, width, height in pixels; all 0 for an empty mask."""
COMPLETE = 0.95
"""A track counts as complete if more than this share of it is visible."""


@dataclass(frozen=True)
class TrackRecord:
    """One object through F frames, with the field names of the JSON.

    Attributes:
        segmentation: amodal mask of each frame.
        visible_mask: modal mask of each frame.
        bbox: box of the amodal mask in each frame.
        image_ids: number of each frame, unique over a file's clips; predictions are keyed by it and `obj_id`.
        obj_id: unique among the objects of a clip.
        category_id: number of the object's category.
        image_file_names: path of each frame, with ``/``, relative to the data set's root.
    """

    segmentation: tuple[Rle, ...]
    visible_mask: tuple[Rle, ...]
    bbox: tuple[Box, ...]
    image_ids: tuple[int, ...]
    obj_id: int
    category_id: int
    image_file_names: tuple[str, ...]

    @classmethod
    def from_masks(
        cls,
        modal: BoolArray,
        amodal: BoolArray,
        *,
        image_ids: Sequence[int],
        image_file_names: Sequence[str],
        obj_id: int,
        category_id: int = 1,
    ) -> TrackRecord:
        """Encode the masks of a track.

        Args:
            modal: modal (visible) masks, bool ``[F, H, W]``.
            amodal: amodal masks, bool ``[F, H, W]``.
            image_ids: F numbers.
            image_file_names: F relative paths.
            obj_id: unique among the objects of the clip.
            category_id: number of the object's category.

        Raises:
            InputError: if shapes or counts differ.
        """
        counts = {len(modal), len(amodal), len(image_ids), len(image_file_names)}
        if modal.shape != amodal.shape or len(counts) != 1:
            raise InputError(
                f"modal, amodal, image_ids, image_file_names: expected as many frames of one size, got "
                f"{list(modal.shape)}, {list(amodal.shape)}, {len(image_ids)}, {len(image_file_names)}"
            )
        return cls(
            segmentation=tuple(encode_rle(mask) for mask in amodal),
            visible_mask=tuple(encode_rle(mask) for mask in modal),
            bbox=tuple(bounding_box(mask) for mask in amodal),
            image_ids=tuple(image_ids),
            obj_id=obj_id,
            category_id=category_id,
            image_file_names=tuple(image_file_names),
        )

    @property
    def num_frames(self) -> int:
        """Number of frames F."""
        return len(self.segmentation)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the masks in pixels."""
        height, width = self.segmentation[0]["size"]
        return height, width

    def first(self, frames: int) -> TrackRecord:
        """The record of the first ``frames`` frames.

        Raises:
            InputError: if the track is shorter.
        """
        if self.num_frames < frames:
            raise InputError(
                f"expected at least {frames} frames, got {self.num_frames}; prepare the data with --frames {frames} or "
                f"set data.frames to {self.num_frames}"
            )
        return replace(
            self,
            segmentation=self.segmentation[:frames],
            visible_mask=self.visible_mask[:frames],
            bbox=self.bbox[:frames],
            image_ids=self.image_ids[:frames],
            image_file_names=self.image_file_names[:frames],
        )

    def modal_masks(self) -> BoolArray:
        """Modal (visible) masks, bool ``[F, H, W]``.

        Raises:
            InputError: if a mask is damaged.
        """
        return np.stack([decode_rle(rle) for rle in self.visible_mask])

    def amodal_masks(self) -> BoolArray:
        """Amodal masks, bool ``[F, H, W]``.

        Raises:
            InputError: if a mask is damaged.
        """
        return np.stack([decode_rle(rle) for rle in self.segmentation])


def bounding_box(mask: BoolArray) -> Box:
    """Smallest box around a mask, bool ``[H, W]``."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if len(rows) == 0:
        return 0.0, 0.0, 0.0, 0.0
    x, y = int(columns[0]), int(rows[0])
    return float(x), float(y), float(columns[-1] - x + 1), float(rows[-1] - y + 1)


def read_records(path: Path) -> tuple[TrackRecord, ...]:
    """Read and check an annotation file; unknown keys are ignored.

    Raises:
        InputError: if the file cannot be read or has another layout; the message names record and key.
    """
    try:
        content = load_json(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise InputError(f"{path}: expected JSON in UTF-8, got something else ({error})") from error
    if not isinstance(content, list):
        raise InputError(f"{path}: expected a list of tracks, got {type(content).__name__}")
    return tuple(parse_record(entry, where=f"{path}: track {number}") for number, entry in enumerate(content))


def write_records(path: Path, records: Iterable[TrackRecord]) -> None:
    """Write an annotation file, one record per line.

    Args:
        path: file to write; its folder exists.
        records: consumed one at a time.
    """
    with open_records(path) as write:
        for record in records:
            write(record)


@contextmanager
def open_records(path: Path) -> Iterator[Callable[[TrackRecord], None]]:
    """Open an annotation file to write records one by one.

    Args:
        path: file to write; its folder exists.

    Yields:
        a function that writes a record.
    """
    with path.open("w", encoding="utf-8") as file:
        file.write("[")
        separators = itertools.chain(["\n"], itertools.repeat(",\n"))

        def write(record: TrackRecord) -> None:
            file.write(next(separators) + json.dumps(vars(record), separators=(",", ":")))

        yield write
        file.write("\n]\n")


def parse_record(entry: object, *, where: str) -> TrackRecord:
    """Check one parsed JSON record.

    Args:
        entry: parsed JSON value.
        where: prefix of error messages.

    Raises:
        InputError: if a value is missing or invalid.
    """
    if not isinstance(entry, Mapping):
        raise InputError(f"{where}: expected an object with a track's keys, got {type(entry).__name__}")
    missing = [key for key in _FIELDS if key not in entry]
    if missing:
        raise InputError(f"{where}: expected the keys {', '.join(_FIELDS)}; no {missing[0]}")
    record = TrackRecord(**{key: parse(entry, where) for key, parse in _FIELDS.items()})
    sizes = sorted({tuple(rle["size"]) for rle in (*record.segmentation, *record.visible_mask)})
    if len(sizes) > 1:
        raise InputError(f"{where}: expected masks of one size [H, W], got {list(sizes[0])} and {list(sizes[1])}")
    return record


def parse_field(entry: Mapping[str, Any], key: str, *, where: str) -> Any:  # noqa: ANN401 - type of the field
    """Check one key of a parsed JSON record independently of the others.

    Args:
        entry: parsed JSON record.
        key: name of a field of :class:`TrackRecord`.
        where: prefix of error messages.

    Returns:
        the value of the field.

    Raises:
        InputError: if the value is missing or invalid.
    """
    if key not in entry:
        raise InputError(f"{where}: {key}: missing")
    return _FIELDS[key](entry, where)


def frame_values(entry: Mapping[str, Any], key: str, *, where: str) -> list[Any]:
    """Read a list that has one JSON value per frame.

    Args:
        entry: parsed JSON record.
        key: key of the list, such as ``bbox``.
        where: prefix of error messages.

    Raises:
        InputError: if the list is missing or empty, or its length differs from that of the amodal masks.
    """
    values = entry.get(key)
    if not isinstance(values, list) or not values:
        raise InputError(f"{where}: {key}: expected a list with a value for each frame, got {values!r:.60}")
    amodal = entry.get("segmentation")
    expected = len(amodal) if isinstance(amodal, list) else len(values)
    if len(values) != expected:
        raise InputError(f"{where}: {key}: expected {expected} values as in segmentation, got {len(values)}")
    return values


def parse_mask(value: object) -> Rle:
    """Check the form of a mask, but not whether its runs fill its size.

    Args:
        value: parsed JSON value.

    Raises:
        InputError: if it is not a compressed COCO RLE.
    """
    size, counts = (value.get("size"), value.get("counts")) if isinstance(value, dict) else (None, None)
    if not isinstance(size, list) or len(size) != 2 or not isinstance(counts, str):
        raise InputError(
            f"expected COCO run lengths {{size: [H, W], counts: text}}, got {value!r:.60}; compress plain counts with "
            "pycocotools"
        )
    return {"size": [_integer(side, "size") for side in size], "counts": counts}


def _rles(entry: Mapping[str, Any], key: str, where: str) -> Iterator[Rle]:
    for frame, value in enumerate(frame_values(entry, key, where=where)):
        try:
            yield parse_mask(value)
        except InputError as error:
            raise InputError(f"{where}: {key}: frame {frame}: {error}") from error


def _boxes(entry: Mapping[str, Any], where: str) -> Iterator[Box]:
    for frame, value in enumerate(frame_values(entry, "bbox", where=where)):
        numbers = isinstance(value, list) and all(isinstance(side, int | float) for side in value)
        if not numbers or len(value) != 4:
            raise InputError(f"{where}: bbox: frame {frame}: expected [x, y, width, height], got {value!r:.60}")
        x, y, width, height = (float(side) for side in value)
        yield x, y, width, height


def _names(entry: Mapping[str, Any], where: str) -> Iterator[str]:
    for value in frame_values(entry, "image_file_names", where=where):
        if not isinstance(value, str) or not value:
            raise InputError(f"{where}: image_file_names: expected relative paths, got {value!r:.60}")
        path = PurePosixPath(value)
        if path.is_absolute() or PureWindowsPath(value).drive or ".." in path.parts:
            raise InputError(
                f"{where}: image_file_names: expected paths below the data set's root, got {value!r}; make it relative"
            )
        yield value


def _integer(value: object, where: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise InputError(f"{where}: expected an integer, got {value!r:.60}")
    return value


_FIELDS: dict[str, Callable[[Mapping[str, Any], str], Any]] = {
    "segmentation": lambda entry, where: tuple(_rles(entry, "segmentation", where)),
    "visible_mask": lambda entry, where: tuple(_rles(entry, "visible_mask", where)),
    "bbox": lambda entry, where: tuple(_boxes(entry, where)),
    "image_ids": lambda entry, where: tuple(
        _integer(value, f"{where}: image_ids") for value in frame_values(entry, "image_ids", where=where)
    ),
    "obj_id": lambda entry, where: _integer(entry["obj_id"], f"{where}: obj_id"),
    "category_id": lambda entry, where: _integer(entry["category_id"], f"{where}: category_id"),
    "image_file_names": lambda entry, where: tuple(_names(entry, where)),
}
