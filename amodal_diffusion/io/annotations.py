"""The masks of one clip from a JSON file: COCO (also CVAT's), YouTube-VIS, or SA-V."""

from __future__ import annotations

import json
import logging
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from amodal_diffusion.frames.masks import Rle, check_rle, merge_rle
from amodal_diffusion.io.coco import count_slivers, read_coco_mask
from amodal_diffusion.io.images import natural_key
from amodal_diffusion.types import InputError

Entry = Mapping[str, Any]
Masks = list[Rle | None]

TRACK_KEYS = ("track_id", "obj_id", "object_id", "instance_id", "tracking_id")
"""Keys of an object's number, in this order; in an annotation itself, or in its ``attributes`` as CVAT writes it."""
_MASK_KEYS = ("segmentation", "segmentations")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class AnnotatedMasks:
    """What a file holds.

    Attributes:
        height: pixels.
        width: pixels.
        names: file name or number of each mask's frame, in order; None where the file does not say.
        objects: by name, one mask a frame; None where the object is not visible.
    """

    height: int
    width: int
    names: tuple[str | int, ...] | None
    objects: dict[str, Masks]


def read_annotated_masks(path: Path, *, what: str, single: str) -> AnnotatedMasks:
    """Read a file of one clip.

    YouTube-VIS has ``videos`` and one annotation per object. COCO has ``images``, and one annotation per object and
    frame; frames are in the order of their names. SA-V has a ``masklet`` for every n-th frame of a video.

    An object is named by ``name``, or else by the first of `TRACK_KEYS`. If names and numbers of objects do not agree,
    the numbers count, and a notice says so. Several annotations of one object in one frame are joined.

    Args:
        path: JSON in UTF-8, UTF-16 or UTF-32, with or without a byte order mark.
        what: name of the argument for messages.
        single: name of the object where nothing tells annotations of different objects apart.

    Raises:
        InputError: if it is no such file, or of several clips, or a mask in it is damaged.
    """
    content = read_json_file(path, what=what)
    if not isinstance(content, dict) or not isinstance(content.get("annotations", content.get("masklet")), list):
        raise InputError(f"{what}: {path}: expected a COCO or YouTube-VIS file with annotations, got neither")
    try:
        found = _reader(content)(content, single)
    except InputError as error:
        raise InputError(f"{what}: {path}: {error}") from error
    except (KeyError, TypeError, ValueError) as error:
        missing = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise InputError(f"{what}: {path}: not as COCO or YouTube-VIS files are: {missing}") from error
    if not found.objects:
        raise InputError(f"{what}: {path}: holds no annotation of an object")
    slivers = sum(count_slivers(entry.get(key)) for entry in content.get("annotations", ()) for key in _MASK_KEYS)
    if slivers:
        logger.warning("%s: %s: %d polygons of fewer than three points are left out", what, path, slivers)
    names = sorted(found.objects, key=natural_key)
    objects = {name: found.objects[name] for name in names}
    return AnnotatedMasks(found.height, found.width, found.names, objects)


def read_json_file(path: Path, *, what: str) -> Any:  # noqa: ANN401 - JSON
    """Read JSON in UTF-8, UTF-16 or UTF-32, with or without a byte order mark.

    Args:
        path: the file.
        what: name of the argument for messages.

    Raises:
        InputError: if the file cannot be read, or is not JSON; NaN and Infinity are not.
    """
    try:
        return json.loads(path.read_bytes(), parse_constant=_refuse_constant)
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{what}: {path}: cannot be read as JSON ({error})") from error


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number")


def _reader(content: Entry) -> Any:  # noqa: ANN401 - one of the three below
    if "masklet" in content:
        return _sav
    return _youtube_vis if content.get("videos") and not content.get("images") else _coco


def _sav(content: Entry, _: str) -> AnnotatedMasks:
    """SA-V: an outer list over annotated frames, an inner one over objects; the frames are evenly spaced."""
    height, width, total = (int(content[f"video_{name}"]) for name in ("height", "width", "frame_count"))
    frames: Sequence[Sequence[object]] = content["masklet"]
    names = [str(number) for number in content["masklet_id"]]
    for number, masks in enumerate(frames):
        if len(masks) != len(names):
            raise InputError(f"masklet {number}: {len(masks)} masks for {len(names)} numbers in masklet_id")
    step = max(1, round(total / len(frames))) if frames else 1
    objects = {
        name: [_mask(masks[place], height, width, {"id": f"masklet {number}"}) for number, masks in enumerate(frames)]
        for place, name in enumerate(names)
    }
    return AnnotatedMasks(height, width, tuple(range(0, step * len(frames), step)), objects)


def _youtube_vis(content: Entry, _: str) -> AnnotatedMasks:
    videos = content["videos"]
    if len(videos) != 1:
        raise InputError(f"holds {len(videos)} videos; give a file with only this clip")
    height, width = int(videos[0]["height"]), int(videos[0]["width"])
    frames = int(videos[0]["length"]) if "length" in videos[0] else len(videos[0]["file_names"])
    entries: Sequence[Entry] = content["annotations"]
    by_number = _names_disagree(entries)
    objects: dict[str, Masks] = {}
    for entry in entries:
        masks = entry["segmentations"]
        if len(masks) != frames:
            raise InputError(f"annotation {entry['id']}: {len(masks)} masks for {frames} frames")
        name = _name(entry, by_number=by_number) or str(entry["id"])
        read = [_mask(mask, height, width, entry) for mask in masks]
        before = objects.get(name, [None] * frames)
        objects[name] = [_union(old, new) for old, new in zip(before, read, strict=True)]
    files = videos[0].get("file_names")
    return AnnotatedMasks(height, width, tuple(map(str, files)) if files else None, objects)


def _coco(content: Entry, single: str) -> AnnotatedMasks:
    images = content["images"]
    sizes = {(int(image["height"]), int(image["width"])) for image in images}
    clips = {image.get("video_id") for image in images}
    if len(sizes) != 1 or len(clips) != 1:
        raise InputError(
            f"holds {len(images)} images of {len(sizes)} sizes and {len(clips)} videos; give a file with only this clip"
        )
    height, width = sizes.pop()
    ordered = sorted(images, key=lambda image: (natural_key(str(image.get("file_name", ""))), image["id"]))
    place = {image["id"]: index for index, image in enumerate(ordered)}
    entries: Sequence[Entry] = content["annotations"]
    by_number = _names_disagree(entries)
    named = any(_name(entry, by_number=by_number) for entry in entries)
    if not named and len(images) > 1 and max(Counter(entry["image_id"] for entry in entries).values(), default=0) > 1:
        raise InputError("a frame has several annotations; expected a track_id in each, which tells objects apart")
    objects: dict[str, Masks] = {}
    for entry in entries:
        if entry["image_id"] not in place:
            raise InputError(f"annotation {entry['id']}: no image {entry['image_id']}")
        alone = single if len(images) > 1 or len(entries) == 1 else str(entry["id"])
        name = _name(entry, by_number=by_number) if named else alone
        if name is None:
            raise InputError(f"annotation {entry['id']}: expected a track_id, as others have one")
        masks = objects.setdefault(name, [None] * len(images))
        index = place[entry["image_id"]]
        masks[index] = _union(masks[index], _mask(entry["segmentation"], height, width, entry))
    named_files = all(isinstance(image.get("file_name"), str) for image in ordered)
    names = tuple(str(image["file_name"]) for image in ordered) if named_files else None
    return AnnotatedMasks(height, width, names, objects)


def track_number(entry: Entry) -> str | None:
    """Number of an annotation's object as text: the first of `TRACK_KEYS` in it or in its ``attributes``."""
    attributes = entry.get("attributes")
    for values in (entry, attributes if isinstance(attributes, Mapping) else {}):
        for key in TRACK_KEYS:
            if values.get(key) is not None:
                return str(values[key])
    return None


def _name(entry: Entry, *, by_number: bool) -> str | None:
    """Name of an annotation's object: as this package writes it, or else the number of the track."""
    name, number = entry.get("name"), track_number(entry)
    if by_number and number is not None:
        return number
    return number if name is None else str(name)


def _names_disagree(entries: Sequence[Entry]) -> bool:
    """Whether an object's name goes with several numbers, or its number with several names; says so."""
    numbers: dict[str, set[str]] = defaultdict(set)
    names: dict[str, set[str]] = defaultdict(set)
    for entry in entries:
        name, number = entry.get("name"), track_number(entry)
        if name is not None and number is not None:
            numbers[str(name)].add(number)
            names[number].add(str(name))
    for kind, other, found in (("name", "track_ids", numbers), ("track_id", "names", names)):
        for value, several in found.items():
            if len(several) > 1:
                listed = ", ".join(sorted(several, key=natural_key)[:4])
                logger.warning(
                    "masks: %s %s has the %s %s: objects are told apart by track_id", kind, value, other, listed
                )
                return True
    return False


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
