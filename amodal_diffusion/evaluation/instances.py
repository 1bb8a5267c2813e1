"""Result lists of instance systems, COCO's or YouTube-VIS's, scored by average precision."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from amodal_diffusion.data.index import stream_entries
from amodal_diffusion.data.records import TrackRecord
from amodal_diffusion.evaluation.exports import Videos
from amodal_diffusion.metrics import MOST_HIDDEN_TRACK, Instance, average_precision
from amodal_diffusion.types import BoolArray, InputError
from amodal_diffusion.video.coco_masks import read_coco_mask
from amodal_diffusion.video.masks import decode_rle

Kind = Literal["coco", "youtube-vis"]


@dataclass
class TrueInstances:
    """What predictions are matched with.

    Attributes:
        images: true instances of single frames; the group is the image's number.
        videos: true tracks; the group is the video's number, see `Videos`.
        sizes: height, width and number of frames, by group of `videos`; one frame, by group of `images`.
    """

    images: list[Instance]
    videos: list[Instance]
    sizes: dict[Kind, dict[str, tuple[int, int, int]]]

    @classmethod
    def of(cls, records: Iterable[TrackRecord]) -> TrueInstances:
        """Gather the instances of all tracks; frames in which the object is not are none.

        Args:
            records: the annotations.
        """
        truth = cls([], [], {"coco": {}, "youtube-vis": {}})
        numbers = Videos()
        for record in records:
            modal, amodal = record.modal_masks(), record.amodal_masks()
            video = str(numbers.number(record))
            truth.sizes["youtube-vis"][video] = (*record.size, record.num_frames)
            truth.videos.append(Instance.from_masks(video, amodal, category=record.category_id, modal=modal))
            for image, visible, whole in zip(record.image_ids, modal, amodal, strict=True):
                truth.sizes["coco"][str(image)] = (*record.size, 1)
                if whole.any():
                    truth.images.append(_of_frame(str(image), visible, whole, record.category_id))
        return truth


def kind_of_results(path: Path) -> Kind | None:
    """Which result list a file is, by its first entry; None if it is no list.

    Args:
        path: a JSON list of results, or an object with ``annotations`` as `score --export` writes it.

    Raises:
        InputError: if the file cannot be read or a list's first entry is neither.
    """
    first = next(_results(path), None)
    if first is None:
        return None
    if isinstance(first, Mapping) and "segmentations" in first:
        return "youtube-vis"
    if isinstance(first, Mapping) and "segmentation" in first:
        return "coco"
    raise InputError(
        f"{path}: expected results with segmentation (COCO) or segmentations (YouTube-VIS), got {first!r:.60}"
    )


def score_instances(path: Path, kind: Kind, truth: TrueInstances) -> dict[str, object]:
    """Average precision of a result list, class-agnostic, for JSON.

    Tracks that are hidden by more than three quarters do not count for videos, as published.

    Args:
        path: the file.
        kind: what it is.
        truth: what to match with.

    Raises:
        InputError: if a result is damaged or of an image or video that the annotations do not have; names it.
    """
    predictions = [
        _instance(entry, kind, truth.sizes[kind], where=f"{path}: result {number}")
        for number, entry in enumerate(_results(path))
    ]
    if kind == "coco":
        return {"ap": asdict(average_precision(truth.images, predictions))}
    return {"video_ap": asdict(average_precision(truth.videos, predictions, most_hidden=MOST_HIDDEN_TRACK))}


def _of_frame(group: str, modal: BoolArray, amodal: BoolArray, category: int) -> Instance:
    return Instance.from_masks(group, amodal[None], category=category, modal=modal[None])


def _results(path: Path) -> Iterator[Any]:
    """The entries of a list, or of the list ``annotations`` of an object."""
    try:
        with path.open("rb") as file:
            is_list = file.read(4096).removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"["
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    return stream_entries(path, "" if is_list else "annotations")


def _instance(entry: object, kind: Kind, sizes: Mapping[str, tuple[int, int, int]], *, where: str) -> Instance:
    group_key, mask_key = ("image_id", "segmentation") if kind == "coco" else ("video_id", "segmentations")
    if not isinstance(entry, Mapping) or mask_key not in entry:
        raise InputError(f"{where}: expected an object with {group_key}, {mask_key} and score, got {entry!r:.60}")
    group, score = str(entry.get(group_key)), entry.get("score")
    if group not in sizes:
        raise InputError(f"{where}: {group_key}: {group} is not among the annotations'")
    if not isinstance(score, int | float) or not math.isfinite(score):
        raise InputError(f"{where}: score: expected a number, got {score!r:.40}; precision needs an order of results")
    height, width, frames = sizes[group]
    masks = entry[mask_key] if kind == "youtube-vis" else [entry[mask_key]]
    if not isinstance(masks, list) or len(masks) != frames:
        raise InputError(f"{where}: {mask_key}: expected {frames} masks, one a frame, or null, got {masks!r:.40}")
    decoded = np.zeros((frames, height, width), dtype=np.bool_)
    for frame, mask in enumerate(masks):
        try:
            coded = read_coco_mask(mask, height, width)
            if coded is not None:
                decoded[frame] = decode_rle(coded)
        except InputError as error:
            raise InputError(f"{where}: {mask_key}: {error}") from error
    category = entry.get("category_id", 1)
    return Instance.from_masks(group, decoded, category=category, score=float(score))
