"""Masks of the objects of one clip from a COCO or YouTube-VIS JSON file."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from amodal_diffusion.types import InputError
from amodal_diffusion.video.coco_masks import read_coco_mask
from amodal_diffusion.video.masks import Rle, check_rle, merge_rle
from amodal_diffusion.video.pictures import natural_key

Entry = Mapping[str, Any]
Masks = list[Rle | None]


@dataclass(frozen=True)
class AnnotatedMasks:
    """What a file holds.

    Attributes:
        height: pixels.
        width: pixels.
        num_frames: of the clip.
        objects: by name, a mask a frame; None where the object is not seen.
    """

    height: int
    width: int
    num_frames: int
    objects: dict[str, Masks]


def read_annotated_masks(path: Path, *, what: str, single: str) -> AnnotatedMasks:
    """Read a file of one clip.

    Args:
        path: YouTube-VIS has ``videos``, and an annotation for each object; COCO has ``images``, and an annotation for
            each object and frame, with ``track_id`` where a frame has several. Frames are in the order of their names.
        what: name of the argument for messages.
        single: name of the object where nothing tells annotations of different objects apart.

    Raises:
        InputError: if it is no such file, or of several clips, or a mask in it is damaged.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{what}: {path}: cannot be read as JSON ({error})") from error
    if not isinstance(content, dict) or not isinstance(content.get("annotations"), list):
        raise InputError(f"{what}: {path}: expected a COCO or YouTube-VIS file with annotations, got neither")
    try:
        read = _youtube_vis if content.get("videos") and not content.get("images") else _coco
        found = read(content, single)
    except InputError as error:
        raise InputError(f"{what}: {path}: {error}") from error
    except (KeyError, TypeError, ValueError) as error:
        missing = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise InputError(f"{what}: {path}: not as COCO or YouTube-VIS files are: {missing}") from error
    if not found.objects:
        raise InputError(f"{what}: {path}: holds no annotation of an object")
    names = sorted(found.objects, key=natural_key)
    return AnnotatedMasks(
        found.height, found.width, found.num_frames, {name: found.objects[name] for name in names}
    )  # fmt: skip


def _youtube_vis(content: Entry, _: str) -> AnnotatedMasks:
    videos = content["videos"]
    if len(videos) != 1:
        raise InputError(f"holds {len(videos)} videos; give a file of the clip alone")
    height, width = int(videos[0]["height"]), int(videos[0]["width"])
    frames = int(videos[0]["length"]) if "length" in videos[0] else len(videos[0]["file_names"])
    objects: dict[str, Masks] = {}
    for entry in content["annotations"]:
        masks = entry["segmentations"]
        if len(masks) != frames:
            raise InputError(f"annotation {entry['id']}: {len(masks)} masks for {frames} frames")
        name = _name(entry) or str(entry["id"])
        read = [_mask(mask, height, width, entry) for mask in masks]
        objects[name] = [_union(old, new) for old, new in zip(objects[name], read, strict=True)] if (
            name in objects
        ) else read  # fmt: skip
    return AnnotatedMasks(height, width, frames, objects)


def _coco(content: Entry, single: str) -> AnnotatedMasks:
    images = content["images"]
    sizes = {(int(image["height"]), int(image["width"])) for image in images}
    clips = {image.get("video_id") for image in images}
    if len(sizes) != 1 or len(clips) != 1:
        raise InputError(
            f"holds {len(images)} images of {len(sizes)} sizes and {len(clips)} videos; give a file of the clip alone"
        )
    height, width = sizes.pop()
    ordered = sorted(images, key=lambda image: (natural_key(str(image.get("file_name", ""))), image["id"]))
    place = {image["id"]: index for index, image in enumerate(ordered)}
    entries: Sequence[Entry] = content["annotations"]
    named = any(_name(entry) for entry in entries)
    if not named and len(images) > 1 and max(Counter(entry["image_id"] for entry in entries).values(), default=0) > 1:
        raise InputError("a frame has several annotations; expected a track_id in each, which tells objects apart")
    objects: dict[str, Masks] = {}
    for entry in entries:
        if entry["image_id"] not in place:
            raise InputError(f"annotation {entry['id']}: no image {entry['image_id']}")
        name = _name(entry) if named else single if len(images) > 1 or len(entries) == 1 else str(entry["id"])
        if name is None:
            raise InputError(f"annotation {entry['id']}: expected a track_id, as others have one")
        masks = objects.setdefault(name, [None] * len(images))
        index = place[entry["image_id"]]
        masks[index] = _union(masks[index], _mask(entry["segmentation"], height, width, entry))
    return AnnotatedMasks(height, width, len(images), objects)


def _name(entry: Entry) -> str | None:
    """Name of an annotation's object: as this package writes it, or else the number of the track."""
    name = entry.get("name", entry.get("track_id", entry.get("instance_id")))
    return None if name is None else str(name)


def _mask(value: object, height: int, width: int, entry: Entry) -> Rle | None:
    try:
        rle = read_coco_mask(value, height, width)
        if rle is not None:
            check_rle(rle)
    except InputError as error:
        raise InputError(f"annotation {entry['id']}: {error}") from error
    return rle


def _union(first: Rle | None, second: Rle | None) -> Rle | None:
    """An object in several pieces has several annotations in one frame."""
    return merge_rle(first, second) if first and second else first or second
