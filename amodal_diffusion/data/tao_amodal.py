"""Annotation files of TAO-Amodal's curated tracks: modal masks and amodal boxes that may leave the frame."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from amodal_diffusion.basics import InputError
from amodal_diffusion.data.index import stream_entries
from amodal_diffusion.data.records import Box
from amodal_diffusion.frames.masks import decode_rle
from amodal_diffusion.io.coco import FARTHEST
from amodal_diffusion.io.json_files import load_json
from amodal_diffusion.types import BoolArray


@dataclass(frozen=True)
class TaoRecord:
    """One object through F frames, with the field names of the JSON.

    Attributes:
        track_id: unique over the file.
        category_id: number of the object's category.
        video_id: number of the clip.
        file_names: path of each frame.
        rles: modal mask of each frame as the counts of a COCO RLE of `height` x `width`.
        height: height of the frames in pixels.
        width: width of the frames in pixels.
        amodal_bboxes: amodal box of the object in each frame; may leave the frame.
    """

    track_id: int
    category_id: int
    video_id: int
    file_names: tuple[str, ...]
    rles: tuple[str, ...]
    height: int
    width: int
    amodal_bboxes: tuple[Box, ...]

    @property
    def num_frames(self) -> int:
        """Number of frames F."""
        return len(self.file_names)

    def modal_masks(self) -> BoolArray:
        """Modal (visible) masks, bool ``[F, H, W]``.

        Raises:
            InputError: if a mask is damaged.
        """
        size = [self.height, self.width]
        return np.stack([decode_rle({"size": size, "counts": counts}) for counts in self.rles])


def stream_tao_records(path: Path) -> Iterator[TaoRecord]:
    """Read and check the tracks one by one, without loading the file.

    Args:
        path: a JSON list of tracks.

    Raises:
        InputError: if the file cannot be read or a track is invalid; the message names track and key.
    """
    for number, entry in enumerate(stream_entries(path)):
        yield parse_tao_record(entry, where=f"{path}: track {number}")


def read_first_tracks(path: Path) -> dict[int, int]:
    """Read the first track of each video.

    Args:
        path: JSON object that maps video numbers to track numbers.

    Raises:
        InputError: if the file cannot be read or is not such an object.
    """
    try:
        content = load_json(path)
        return {int(video): int(track) for video, track in content.items()}
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, TypeError, AttributeError, OverflowError) as error:
        raise InputError(f"{path}: expected a JSON object of track numbers by video number ({error})") from error


def parse_tao_record(entry: object, *, where: str) -> TaoRecord:
    """Check one parsed JSON record.

    Args:
        entry: parsed JSON value.
        where: prefix of error messages.

    Raises:
        InputError: if a value is missing or invalid.
    """
    names = [field.name for field in fields(TaoRecord)]
    if not isinstance(entry, Mapping):
        raise InputError(f"{where}: expected an object with a track's keys, got {type(entry).__name__}")
    missing = [name for name in names if name not in entry]
    if missing:
        raise InputError(f"{where}: expected the keys {', '.join(names)}; no {missing[0]}")
    for name in ("track_id", "category_id", "video_id", "height", "width"):
        if not isinstance(entry[name], int) or isinstance(entry[name], bool):
            raise InputError(f"{where}: {name}: expected an integer, got {entry[name]!r:.60}")
    file_names = entry["file_names"]
    if not isinstance(file_names, list) or not file_names or not all(isinstance(name, str) for name in file_names):
        raise InputError(f"{where}: file_names: expected a list of paths, got {file_names!r:.60}")
    return TaoRecord(
        **{name: entry[name] for name in ("track_id", "category_id", "video_id", "height", "width")},
        file_names=tuple(file_names),
        rles=tuple(_per_frame(entry, "rles", lambda value: isinstance(value, str), "run lengths as text", where)),
        amodal_bboxes=tuple(
            (float(x), float(y), float(width), float(height))
            for x, y, width, height in _per_frame(entry, "amodal_bboxes", is_box, "[x, y, width, height]", where)
        ),
    )


def is_box(value: object) -> bool:
    """Whether a JSON value is a list of four numbers that can be pixels."""
    return (
        isinstance(value, list)
        and len(value) == 4
        and all(isinstance(side, int | float) and abs(side) <= FARTHEST for side in value)
    )


def _per_frame(
    entry: Mapping[str, Any], key: str, right: Callable[[object], bool], expected: str, where: str
) -> list[Any]:
    """Check a list that has one value per frame."""
    values = entry[key]
    frames = len(entry["file_names"])
    if not isinstance(values, list) or len(values) != frames:
        raise InputError(f"{where}: {key}: expected {frames} values, one per frame, got {values!r:.60}")
    for frame, value in enumerate(values):
        if not right(value):
            raise InputError(f"{where}: {key}: frame {frame}: expected {expected}, got {value!r:.60}")
    return values
