"""The masks of one clip from a JSON file: COCO (also CVAT's), YouTube-VIS, or SA-V."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from amodal_diffusion.basics import InputError
from amodal_diffusion.frames.masks import MAX_PIXELS, Rle, check_rle, merge_rle
from amodal_diffusion.io.coco import SLIVERS, count_slivers, read_coco_mask
from amodal_diffusion.io.identities import folder_names, identify, object_number
from amodal_diffusion.io.images import natural_key
from amodal_diffusion.io.json_files import load_json

SAV_STEP = 4  # SA-V's videos have 24 frames a second, and masks of 6
_MASK_KEYS = ("segmentation", "segmentations")
Entry = Mapping[str, Any]
Masks = list[Rle | None]

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

    An object is named by ``name``, or else by the first of `TRACK_KEYS`, see `identify`. Several annotations of one
    object in one frame are joined.

    Args:
        path: JSON in UTF-8, UTF-16 or UTF-32, with or without a byte order mark.
        what: name of the argument for messages.
        single: name of the object where nothing tells annotations of different objects apart.

    Raises:
        InputError: if it is no such file, or of several clips, or a mask in it is damaged.
    """
    where = f"{what}: {path}"
    try:
        content = load_json(path)
    except (OSError, ValueError) as error:
        raise InputError(f"{where}: cannot be read as JSON ({error})") from error
    if not isinstance(content, dict) or not isinstance(content.get("annotations", content.get("masklet")), list):
        raise InputError(f"{where}: expected a COCO or YouTube-VIS file with annotations, got neither")
    try:
        found = _read(content, single, where)
        slivers = sum(count_slivers(entry.get(key)) for entry in content.get("annotations", ()) for key in _MASK_KEYS)
    except InputError as error:
        raise InputError(f"{where}: {error}") from error
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
        missing = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise InputError(f"{where}: not as COCO or YouTube-VIS files are: {missing:.200}") from error
    if not found.objects:
        raise InputError(f"{where}: holds no annotation of an object")
    if slivers:
        logger.warning(SLIVERS, where, slivers)
    names = sorted(found.objects, key=natural_key)
    folders = folder_names(names, where)
    objects = {folder: found.objects[name] for folder, name in zip(folders, names, strict=True)}
    return AnnotatedMasks(found.height, found.width, found.names, objects)


def _read(content: Entry, single: str, where: str) -> AnnotatedMasks:
    if "masklet" in content:
        return _sav(content)
    if content.get("videos") and not content.get("images"):
        return _youtube_vis(content, where)
    return _coco(content, single, where)


def _youtube_vis(content: Entry, where: str) -> AnnotatedMasks:
    videos = content["videos"]
    if len(videos) != 1:
        raise InputError(f"holds {len(videos)} videos; give a file with only this clip")
    height, width = _whole(videos[0], "height"), _whole(videos[0], "width")
    file_names = videos[0].get("file_names")
    frames = _whole(videos[0], "length") if "length" in videos[0] else len(videos[0]["file_names"])
    entries: Sequence[Entry] = content["annotations"]
    for entry in entries:
        if not isinstance(entry["segmentations"], list) or len(entry["segmentations"]) != frames:
            raise InputError(f"annotation {entry['id']}: {len(entry['segmentations'])} masks for {frames} frames")
    identities = identify(entries, where) or [str(entry["id"]) for entry in entries]
    objects: dict[str, Masks] = {}
    for entry, name in zip(entries, identities, strict=True):
        masks = objects.setdefault(name, [None] * frames)
        for frame, mask in enumerate(entry["segmentations"]):
            masks[frame] = _union(masks[frame], _mask(mask, height, width, entry))
    named = isinstance(file_names, list) and len(file_names) == frames
    return AnnotatedMasks(height, width, tuple(map(str, file_names)) if named else None, objects)


def _coco(content: Entry, single: str, where: str) -> AnnotatedMasks:
    images: Sequence[Entry] = content["images"]
    sizes = {(_whole(image, "height"), _whole(image, "width")) for image in images}
    clips = {image.get("video_id") for image in images}
    if len(sizes) != 1 or len(clips) != 1:
        raise InputError(
            f"holds {len(images)} images of {len(sizes)} sizes and {len(clips)} videos; give a file with only this clip"
        )
    height, width = sizes.pop()
    ordered = sorted(images, key=lambda image: (natural_key(str(image.get("file_name", ""))), image["id"]))
    place = {image["id"]: index for index, image in enumerate(ordered)}
    if len(place) < len(images):
        raise InputError("two images have one id; expected a different one for each")
    entries: Sequence[Entry] = content["annotations"]
    for entry in entries:
        if entry["image_id"] not in place:
            raise InputError(f"annotation {entry['id']}: no image {entry['image_id']}")
    positions = [place[entry["image_id"]] for entry in entries]
    identities = identify(entries, where)
    if identities is None:
        identities = _without_identity(entries, positions, len(images), single, where)
    objects: dict[str, Masks] = {}
    for entry, name, index in zip(entries, identities, positions, strict=True):
        masks = objects.setdefault(name, [None] * len(images))
        masks[index] = _union(masks[index], _mask(entry["segmentation"], height, width, entry))
    names = tuple(str(image["file_name"]) for image in ordered if image.get("file_name"))
    return AnnotatedMasks(height, width, names if len(names) == len(images) else None, objects)


def _without_identity(
    entries: Sequence[Entry], positions: Sequence[int], frames: int, single: str, where: str
) -> list[str]:
    """Objects of annotations without any ID: of one picture each is one; of a clip all are one, or one a category."""
    if frames == 1:
        names = [single] if len(entries) == 1 else [str(entry["id"]) for entry in entries]
        if len(set(names)) < len(names):
            raise InputError("two annotations have one id; expected a different one for each object")
        return names
    if max(Counter(positions).values(), default=0) > 1:
        raise InputError("a frame has several annotations; expected a track_id in each, which tells objects apart")
    categories = [str(entry.get("category_id")) for entry in entries]
    if len(set(categories)) > 1:
        logger.warning(
            "%s: annotations have no track_id; those of one category_id (%s) are taken for one object",
            where,
            ", ".join(sorted(set(categories), key=natural_key)),
        )
        return categories
    return [single] * len(entries)


def _sav(content: Entry) -> AnnotatedMasks:
    """Read the annotations of a video of SA-V: ``masklet`` lists frames, and in each the mask of every ``masklet_id``.

    Source: facebookresearch/sam2, sav_dataset/README.md.
    """
    frames = content["masklet"]
    height, width, count = (_whole(content, f"video_{key}") for key in ("height", "width", "frame_count"))
    names = [object_number(number, "masklet_id") for number in content["masklet_id"]]
    if None in names or len(set(names)) < len(names):
        raise InputError(f"masklet_id: expected a different number for each object, got {content['masklet_id']!r:.60}")
    objects: dict[str, Masks] = {str(name): [] for name in names}
    for index, masks in enumerate(frames):
        if not isinstance(masks, list) or len(masks) != len(names):
            raise InputError(f"masklet: {index}: expected {len(names)} masks, one for each masklet_id")
        for name, mask in zip(objects, masks, strict=True):
            objects[name].append(_mask(mask, height, width, {"id": f"{name}, masklet {index}"}))
    step = _sav_step(len(frames), count)
    return AnnotatedMasks(height, width, tuple(range(0, step * len(frames), step)), objects)


def _sav_step(masks: int, frames: int) -> int:
    """Distance of the frames that have masks."""
    smallest = -(-frames // max(masks, 1))
    for step in (1, SAV_STEP, smallest):
        if -(-frames // step) == masks:
            return step
    raise InputError(
        f"masklet: {masks} masks of each object for video_frame_count {frames}; expected one of every {SAV_STEP} frames"
    )


def _whole(entry: Entry, key: str) -> int:
    """A whole number, which other programs write as 96, 96.0 or "96"."""
    value = entry[key]
    number: float = float(value) if isinstance(value, int | float | str) else math.nan
    if not number.is_integer() or not 1 <= number <= MAX_PIXELS:
        raise InputError(f"{key}: expected a whole number from 1, got {value!r:.40}")
    return int(number)


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
