"""JSON annotations: COCO-like with one image each (as SAIL-VOS), YouTube-VIS-like tracks, or this package's own.

Files may be larger than memory. They are streamed, and annotations of single images are grouped into tracks in a
temporary database.
"""

from __future__ import annotations

import itertools
import json
import sqlite3
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from amodal_diffusion.basics import InputError
from amodal_diffusion.data.folder_source import VideoObject
from amodal_diffusion.data.index import is_known, stream_entries
from amodal_diffusion.data.records import TrackRecord, parse_record
from amodal_diffusion.frames.masks import Rle
from amodal_diffusion.io.coco import read_coco_mask
from amodal_diffusion.io.identities import find_id, object_number
from amodal_diffusion.io.images import natural_key
from amodal_diffusion.io.json_files import is_list

OBJECT_KEYS = ("obj_id", "track_id", "object_id", "instance_id", "tracking_id")
"""In the order in which they count; SAIL-VOS's own first."""


_MOST = 2**63  # what the database holds


@dataclass(frozen=True)
class JsonKeys:
    """Keys of an annotation; None takes the first of the usual keys that is present.

    Attributes:
        modal: key of the modal mask: visible_mask, or visible_masks for a track.
        amodal: key of the amodal mask: segmentation, or segmentations for a track.
        object: key of the object number: obj_id, track_id, instance_id, or id for a track.
    """

    modal: str | None = None
    amodal: str | None = None
    object: str | None = None


def json_objects(path: Path, keys: JsonKeys) -> Iterator[VideoObject]:
    """Read the tracks of a COCO-like or YouTube-VIS-like file, or of an annotation file (docs/data.md, section 1).

    A COCO-like file has ``images``. Each of its annotations belongs to one image; annotations are grouped by video and
    object number. The video of an image is its ``video_id``, or else the folder of its ``file_name``. Images are
    ordered by ``frame_id`` or ``frame_index``, or else by name in natural order. A YouTube-VIS-like file has ``videos``
    with ``file_names``, and annotations with a list of masks each. An annotation file is a list of tracks.

    Args:
        path: JSON file.
        keys: keys of the annotations; those of an annotation file are fixed.

    Raises:
        InputError: if the file has neither layout, or an annotation lacks a value; the message names it.
    """
    if is_list(path):
        if keys != JsonKeys():
            raise InputError(f"modal, amodal, object: expected none for {path}, a list of tracks with fixed keys")
        yield from map(_as_object, _records(path))
        return
    images = [_image(entry, f"{path}: images: {number}") for number, entry in enumerate(stream_entries(path, "images"))]
    if images:
        yield from _gathered(path, images, keys)
        return
    videos = _videos(path)
    if not videos:
        raise InputError(f"{path}: expected images (COCO) or videos with file_names (YouTube-VIS), got neither")
    taken: set[tuple[object, int]] = set()
    for number, entry in enumerate(stream_entries(path, "annotations")):
        where = f"{path}: annotations: {number}"
        track = _video_track(entry, videos, keys, where=where)
        if (entry["video_id"], track.obj_id) in taken:
            raise InputError(f"{where}: object {track.obj_id} stands twice in its video; give each its own number")
        taken.add((entry["video_id"], track.obj_id))
        yield track


def _records(path: Path) -> Iterator[TrackRecord]:
    if next(stream_entries(path), None) is None:
        raise InputError(f"{path}: expected at least one track, got an empty list")
    for number, entry in enumerate(stream_entries(path)):
        yield parse_record(entry, where=f"{path}: track {number}")


def _as_object(record: TrackRecord) -> VideoObject:
    return VideoObject(
        name=f"{record.image_file_names[0]}, object {record.obj_id}",
        obj_id=record.obj_id,
        category_id=record.category_id,
        size=record.size,
        image_ids=record.image_ids,
        image_file_names=record.image_file_names,
        modal=record.visible_mask,
        amodal=record.segmentation,
    )


@dataclass(frozen=True)
class _Image:
    image_id: int
    name: str
    size: tuple[int, int]
    video: str
    place: int | None


@dataclass(frozen=True)
class _Video:
    names: list[str]
    size: tuple[int, int]
    image_ids: range


@dataclass(frozen=True)
class _Spot:
    """Position of an image: number of its video, and index in the video."""

    video: int
    position: int


def _image(entry: object, where: str) -> _Image:
    if not isinstance(entry, Mapping):
        raise InputError(f"{where}: expected an object, got {type(entry).__name__}")
    name = _name(entry.get("file_name"), where)
    place = entry.get("frame_id", entry.get("frame_index"))
    return _Image(
        image_id=_whole(entry, "id", where),
        name=name,
        size=(_whole(entry, "height", where), _whole(entry, "width", where)),
        video=str(entry["video_id"]) if "video_id" in entry else str(PurePosixPath(name).parent),
        place=place if isinstance(place, int) else None,
    )


def _videos(path: Path) -> dict[object, _Video]:
    videos: dict[object, _Video] = {}
    first = 0  # image id
    for number, entry in enumerate(stream_entries(path, "videos")):
        where = f"{path}: videos: {number}"
        if not isinstance(entry, Mapping) or not isinstance(entry.get("file_names"), list):
            raise InputError(f"{where}: expected an object with file_names, got {entry!r:.60}")
        names = [_name(name, where) for name in entry["file_names"]]
        size = _whole(entry, "height", where), _whole(entry, "width", where)
        if not isinstance(entry.get("id"), int | str) or entry["id"] in videos:
            raise InputError(f"{where}: id: expected a number of its own, got {entry.get('id')!r:.40}")
        videos[entry["id"]] = _Video(names, size, range(first, first + len(names)))
        first += len(names)
    return videos


def _video_track(entry: object, videos: Mapping[object, _Video], keys: JsonKeys, *, where: str) -> VideoObject:
    if not isinstance(entry, Mapping) or not is_known(entry.get("video_id"), videos):
        raise InputError(f"{where}: expected an object with the video_id of one of the videos, got {entry!r:.60}")
    video = videos[entry["video_id"]]

    def masks(key: str) -> list[Rle | None]:
        values = entry[key]
        if not isinstance(values, list) or len(values) != len(video.names):
            raise InputError(f"{where}: {key}: expected a list of {len(video.names)} masks, one per frame, or null")
        return [_mask(value, video.size, f"{where}: {key}: {frame}") for frame, value in enumerate(values)]

    return VideoObject(
        name=where,
        obj_id=_object_number(entry, keys.object, ("id",), where),
        category_id=_whole(entry, "category_id", where),
        size=video.size,
        image_ids=video.image_ids,
        image_file_names=video.names,
        modal=masks(_key(entry, keys.modal, ("visible_masks", "visible_mask"), "modal", where)),
        amodal=masks(_key(entry, keys.amodal, ("segmentations", "segmentation"), "amodal", where)),
    )


def _gathered(path: Path, images: Sequence[_Image], keys: JsonKeys) -> Iterator[VideoObject]:
    """Group annotations of single images by video and object."""
    videos: dict[str, list[_Image]] = {}
    for image in images:
        videos.setdefault(image.video, []).append(image)
    for frames in videos.values():
        numbered = all(image.place is not None for image in frames)
        frames.sort(key=(lambda image: (image.place,)) if numbered else (lambda image: natural_key(image.name)))
    spots = {
        image.image_id: _Spot(number, position)
        for number, frames in enumerate(videos.values())
        for position, image in enumerate(frames)
    }
    if len(spots) != len(images):
        raise InputError(f"{path}: images: expected a different id for each, got {len(images) - len(spots)} repeated")
    clips = list(videos.items())
    with tempfile.TemporaryDirectory() as folder, closing(sqlite3.connect(Path(folder) / "masks")) as database:
        database.execute("PRAGMA journal_mode = OFF")
        database.execute("CREATE TABLE masks (video, object, position, category, modal, amodal)")
        rows = (
            _row(entry, spots, clips, keys, where=f"{path}: annotations: {number}")
            for number, entry in enumerate(stream_entries(path, "annotations"))
        )
        database.executemany("INSERT INTO masks VALUES (?, ?, ?, ?, ?, ?)", rows)
        database.execute("CREATE INDEX tracks ON masks (video, object, position)")
        found = database.execute("SELECT * FROM masks ORDER BY video, object, position")
        for (video, number), group in itertools.groupby(found, key=lambda row: (row[0], row[1])):
            name, frames = clips[video]
            yield _image_track(list(group), frames, number, where=f"{path}: video {name}: object {number}")


def _row(
    entry: object,
    spots: Mapping[int, _Spot],
    clips: Sequence[tuple[str, Sequence[_Image]]],
    keys: JsonKeys,
    *,
    where: str,
) -> tuple[int, int, int, int, str, str]:
    """Database row of an annotation of one image."""
    if not isinstance(entry, Mapping) or not is_known(entry.get("image_id"), spots):
        raise InputError(f"{where}: expected an object with the image_id of one of the images, got {entry!r:.60}")
    spot = spots[entry["image_id"]]
    size = clips[spot.video][1][spot.position].size
    names = (
        _key(entry, keys.modal, ("visible_mask",), "modal", where),
        _key(entry, keys.amodal, ("segmentation",), "amodal", where),
    )
    modal, amodal = (json.dumps(_mask(entry[name], size, f"{where}: {name}")) for name in names)
    number = _object_number(entry, keys.object, (), where)
    return spot.video, number, spot.position, _whole(entry, "category_id", where), modal, amodal


def _image_track(rows: Sequence[tuple[Any, ...]], frames: Sequence[_Image], number: int, *, where: str) -> VideoObject:
    positions = [row[2] for row in rows]
    if len(set(positions)) != len(positions):
        raise InputError(f"{where}: expected one annotation per image, got two in one; give each object its own number")
    sizes = {frames[position].size for position in positions}
    if len(sizes) > 1:
        raise InputError(f"{where}: expected frames of one size, got {' and '.join(map(str, sorted(sizes)))}")
    modal: list[Rle | None] = [None] * len(frames)
    amodal: list[Rle | None] = [None] * len(frames)
    for row in rows:
        modal[row[2]], amodal[row[2]] = json.loads(row[4]), json.loads(row[5])
    return VideoObject(
        name=where,
        obj_id=number,
        category_id=rows[0][3],
        size=sizes.pop(),
        image_ids=[image.image_id for image in frames],
        image_file_names=[image.name for image in frames],
        modal=modal,
        amodal=amodal,
    )


def _mask(value: object, size: tuple[int, int], where: str) -> Rle | None:
    try:
        return read_coco_mask(value, *size)
    except InputError as error:
        raise InputError(f"{where}: {error}") from error


def _key(entry: Mapping[str, Any], given: str | None, usual: Sequence[str], what: str, where: str) -> str:
    """First of the possible keys that an annotation has."""
    wanted = usual if given is None else (given,)
    found = next((key for key in wanted if key in entry), None)
    if found is None:
        raise InputError(
            f"{where}: expected {' or '.join(wanted)}, got the keys {', '.join(entry)}; name the right one as --{what}"
        )
    return found


def _object_number(entry: Mapping[str, Any], given: str | None, others: tuple[str, ...], where: str) -> int:
    """Number of an annotation's object, which other programs also write as 7.0 or "7"."""
    found = find_id(entry, OBJECT_KEYS if given is None else (given,))
    if found is None:
        name = _key(entry, given, (*OBJECT_KEYS, *others), "object", where)
        found = name, entry[name]
    key, value = found
    try:
        number = int(object_number(value, key))
    except ValueError as error:  # InputError is one
        raise InputError(f"{where}: {key}: expected an integer, got {value!r:.40}") from error
    return _whole({key: number}, key, where)


def _whole(entry: Mapping[str, Any], key: str, where: str) -> int:
    value = entry.get(key)
    if not isinstance(value, int) or isinstance(value, bool):
        raise InputError(f"{where}: {key}: expected an integer, got {value!r:.40}")
    if not -_MOST <= value < _MOST:
        raise InputError(f"{where}: {key}: expected an integer of at most 64 bits, got {value!r:.40}")
    return value


def _name(value: object, where: str) -> str:
    if not isinstance(value, str) or not value:
        raise InputError(f"{where}: expected the path of a frame, got {value!r:.60}")
    return value
