"""Annotation files of one clip: COCO, YouTube-VIS, and the masklets of SA-V; which annotations are of one object."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from amodal_diffusion.frames.masks import MAX_PIXELS, Rle, check_rle, merge_rle
from amodal_diffusion.io.coco import IgnoredPieces, read_coco_mask
from amodal_diffusion.io.identities import folder_names, identify, object_number
from amodal_diffusion.io.images import natural_key
from amodal_diffusion.io.json_files import load_json
from amodal_diffusion.types import InputError

SAV_STEP = 4  # SA-V's videos have 24 frames a second, and masks of 6
Entry = Mapping[str, Any]
Masks = list[Rle | None]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class AnnotatedMasks:
    """What a file holds.

    Attributes:
        height: pixels.
        width: pixels.
        num_frames: with a mask, or known to hide the object.
        objects: by name, a mask a frame; None where the object is not seen.
        numbers: index in the clip of each of these frames, from 0; None if they are all of the clip's.
        names: file name of each of these frames; None if the file does not name them all.
    """

    height: int
    width: int
    num_frames: int
    objects: dict[str, Masks]
    numbers: tuple[int, ...] | None = None
    names: tuple[str, ...] | None = None


def read_annotated_masks(path: Path, *, what: str, single: str) -> AnnotatedMasks:
    """Read a file of one clip.

    Which annotations are of one object: those with the same ``name``, as this package writes it, or else with the same
    ``track_id``, ``instance_id``, ``obj_id``, ``object_id`` or ``tracking_id``; the first of these keys counts that the
    annotation has itself or, failing that, among its ``attributes`` (as CVAT exports it). Where one frame has several
    IDs under one name, or one ID has several names, IDs decide and a notice says so. Several annotations of one object
    in one frame are its pieces, and their union is taken.

    Args:
        path: YouTube-VIS has ``videos``, and an annotation for each object; COCO has ``images``, and an annotation for
            each object and frame. Frames are in the order of their names. SA-V has ``masklet``, masks of every fourth
            frame.
        what: name of the argument for messages.
        single: name of the object where nothing tells annotations of different objects apart.

    Raises:
        InputError: if it is no such file, or of several clips, or a mask in it is damaged.
    """
    try:
        content = load_json(path)
    except (OSError, ValueError) as error:
        raise InputError(f"{what}: {path}: cannot be read as JSON ({error})") from error
    if not isinstance(content, dict) or not isinstance(content.get("annotations", content.get("masklet")), list):
        raise InputError(f"{what}: {path}: expected a COCO or YouTube-VIS file with annotations, got neither")
    ignored, where = IgnoredPieces(), f"{what}: {path}"
    try:
        if "annotations" not in content:
            found = _sav(content)
        elif content.get("videos") and not content.get("images"):
            found = _youtube_vis(content, ignored, where)
        else:
            found = _coco(content, single, ignored, where)
    except InputError as error:
        raise InputError(f"{where}: {error}") from error
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
        missing = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise InputError(f"{where}: not as COCO or YouTube-VIS files are: {missing:.200}") from error
    ignored.notice(where)
    if not found.objects:
        raise InputError(f"{where}: holds no annotation of an object")
    return found


def _youtube_vis(content: Entry, ignored: IgnoredPieces, where: str) -> AnnotatedMasks:
    videos = content["videos"]
    if len(videos) != 1:
        raise InputError(f"holds {len(videos)} videos; give a file of the clip alone")
    height, width = _whole(videos[0], "height"), _whole(videos[0], "width")
    file_names = videos[0].get("file_names")
    frames = _whole(videos[0], "length") if "length" in videos[0] else len(videos[0]["file_names"])
    entries: Sequence[Entry] = content["annotations"]
    for entry in entries:
        if not isinstance(entry["segmentations"], list) or len(entry["segmentations"]) != frames:
            raise InputError(f"annotation {entry['id']}: {len(entry['segmentations'])} masks for {frames} frames")
    seen = [[frame for frame, mask in enumerate(entry["segmentations"]) if mask] for entry in entries]
    identities = identify(entries, seen, where) or [str(entry["id"]) for entry in entries]
    objects: dict[str, Masks] = {}
    for entry, name in zip(entries, identities, strict=True):
        masks = objects.setdefault(name, [None] * frames)
        for frame, mask in enumerate(entry["segmentations"]):
            ignored.add(mask)
            masks[frame] = _union(masks[frame], _mask(mask, height, width, entry))
    named = isinstance(file_names, list) and len(file_names) == frames
    return AnnotatedMasks(
        height, width, frames, _sorted(objects, where), names=tuple(map(str, file_names)) if named else None
    )


def _coco(content: Entry, single: str, ignored: IgnoredPieces, where: str) -> AnnotatedMasks:
    images: Sequence[Entry] = content["images"]
    sizes = {(_whole(image, "height"), _whole(image, "width")) for image in images}
    clips = {image.get("video_id") for image in images}
    if len(sizes) != 1 or len(clips) != 1:
        raise InputError(
            f"holds {len(images)} images of {len(sizes)} sizes and {len(clips)} videos; give a file of the clip alone"
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
    identities = identify(entries, [[position] for position in positions], where)
    if identities is None:
        identities = _without_identity(entries, positions, len(images), single, where)
    objects: dict[str, Masks] = {}
    for entry, name, index in zip(entries, identities, positions, strict=True):
        masks = objects.setdefault(name, [None] * len(images))
        ignored.add(entry["segmentation"])
        masks[index] = _union(masks[index], _mask(entry["segmentation"], height, width, entry))
    names = tuple(str(image["file_name"]) for image in ordered if image.get("file_name"))
    return AnnotatedMasks(
        height, width, len(images), _sorted(objects, where), names=names if len(names) == len(images) else None
    )


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
    numbers = None if step == 1 else tuple(range(0, step * len(frames), step))
    return AnnotatedMasks(height, width, len(frames), objects if frames else {}, numbers=numbers)


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


def _sorted(objects: dict[str, Masks], where: str) -> dict[str, Masks]:
    """In natural order, under names that can be folders'."""
    names = sorted(objects, key=natural_key)
    return {folder: objects[name] for folder, name in zip(folder_names(names, where), names, strict=True)}
