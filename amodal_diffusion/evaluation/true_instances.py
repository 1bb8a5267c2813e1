"""Ground truth of average precision, from the annotation layouts of the systems that report it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from amodal_diffusion.basics import InputError
from amodal_diffusion.data.amodal_images import read_images, stream_objects
from amodal_diffusion.data.index import stream_entries
from amodal_diffusion.data.records import TrackRecord
from amodal_diffusion.evaluation.exports import Videos
from amodal_diffusion.frames.masks import decode_rle
from amodal_diffusion.io.coco import read_coco_mask
from amodal_diffusion.metrics import Instance, occlusion_rate, track_rate
from amodal_diffusion.types import BoolArray

ResultKind = Literal["coco", "youtube-vis"]
"""Result lists of images (COCO) and of videos (YouTube-VIS)."""


@dataclass
class TrueInstances:
    """Ground truth of average precision.

    Attributes:
        images: true instances of single images, grouped by image number.
        videos: true tracks, grouped by video number, see `Videos`.
        sizes: height, width and number of frames of each video (one frame for an image), by kind and group.
        names: file names of the frames of each image or video, by kind and group; none where the file has none.
    """

    images: list[Instance] = field(default_factory=list)
    videos: list[Instance] = field(default_factory=list)
    sizes: dict[ResultKind, dict[str, tuple[int, int, int]]] = field(
        default_factory=lambda: {"coco": {}, "youtube-vis": {}}
    )
    names: dict[ResultKind, dict[str, tuple[str, ...]]] = field(default_factory=lambda: {"coco": {}, "youtube-vis": {}})

    @classmethod
    def of(cls, records: Iterable[TrackRecord]) -> TrueInstances:
        """Collect the instances of all tracks; a frame without the object has no instance."""
        truth = cls()
        numbers = Videos()
        for record in records:
            modal, amodal = record.modal_masks(), record.amodal_masks()
            video = str(numbers.number(record))
            truth.sizes["youtube-vis"][video] = (*record.size, record.num_frames)
            truth.names["youtube-vis"][video] = record.image_file_names
            rate = occlusion_rate(modal, amodal)
            truth.videos.append(Instance.from_masks(video, amodal, category=record.category_id, occlusion=rate))
            frames = zip(record.image_ids, record.image_file_names, modal, amodal, strict=True)
            for image, name, visible, whole in frames:
                truth.sizes["coco"][str(image)] = (*record.size, 1)
                truth.names["coco"][str(image)] = (name,)
                if whole.any():
                    truth.images.append(_of_image(str(image), whole, record.category_id, visible))
        return truth

    @classmethod
    def of_images(cls, path: Path) -> TrueInstances:
        """Read a file of single images, in the layout of KINS or COCOA or of plain COCO with amodal masks.

        Args:
            path: as :class:`~amodal_diffusion.data.amodal_images.AmodalImageIndex`; without
                modal masks the occlusion rates are unknown.

        Raises:
            InputError: if the file is not of the layout; names the annotation.
        """
        truth = cls()
        for image, about in read_images(path).items():
            truth.sizes["coco"][str(image)] = (*about["size"], 1)
            truth.names["coco"][str(image)] = (about["file_name"],)
        for item in stream_objects(path):
            group = str(item.image)
            amodal = item.amodal()
            if amodal.any():
                truth.images.append(_of_image(group, amodal, item.category, item.modal()))
        return truth

    @classmethod
    def of_videos(cls, path: Path) -> TrueInstances:
        """Read a file of tracks in the layout of YouTube-VIS, as S-AModal's evaluation takes it.

        An annotation has the amodal masks of its frames as ``segmentations``; their hidden shares are its
        ``occlude_rate``, null where a frame has no object, or follow from modal masks in ``visible_masks``. With
        neither the occlusion rate is unknown.

        Raises:
            InputError: if the file is not of the layout; names the annotation.
        """
        truth = cls()
        for video in stream_entries(path, "videos"):
            group, size = _video(video, where=f"{path}: videos")
            truth.sizes["youtube-vis"][group] = size
            if isinstance(names := video.get("file_names"), list):
                truth.names["youtube-vis"][group] = tuple(map(str, names))
        for number, entry in enumerate(stream_entries(path, "annotations")):
            truth.videos.append(_of_track(entry, truth.sizes["youtube-vis"], where=f"{path}: annotations: {number}"))
        return truth


def decode_masks(values: object, size: tuple[int, int, int], *, where: str) -> BoolArray:
    """Decode the masks of a track, bool ``[F, H, W]``; null is an empty one.

    Args:
        values: COCO masks, one a frame.
        size: height, width and number of frames.
        where: of the masks, for messages.

    Raises:
        InputError: if they are not as many as the frames, or one is damaged.
    """
    height, width, frames = size
    if not isinstance(values, list) or len(values) != frames:
        raise InputError(f"{where}: expected {frames} masks, one a frame, or null, got {values!r:.40}")
    decoded = np.zeros((frames, height, width), dtype=np.bool_)
    for frame, value in enumerate(values):
        try:
            coded = read_coco_mask(value, height, width)
            if coded is not None:
                decoded[frame] = decode_rle(coded)
        except InputError as error:
            raise InputError(f"{where}: {error}") from error
    return decoded


def _of_image(group: str, amodal: BoolArray, category: int, modal: BoolArray | None) -> Instance:
    rate = math.nan if modal is None else occlusion_rate(modal[None], amodal[None])
    return Instance.from_masks(group, amodal[None], category=category, occlusion=rate)


def _video(entry: object, *, where: str) -> tuple[str, tuple[int, int, int]]:
    """Number and size of a video."""
    if isinstance(entry, Mapping):
        length = entry.get("length", len(names) if isinstance(names := entry.get("file_names"), list) else None)
        size = (entry.get("height"), entry.get("width"), length)
        if "id" in entry and all(isinstance(side, int) and side > 0 for side in size):
            return str(entry["id"]), size  # type: ignore[return-value]  # three integers, as just checked
    raise InputError(f"{where}: expected id, height, width and length, got {entry!r:.80}")


def _of_track(entry: Any, sizes: Mapping[str, tuple[int, int, int]], *, where: str) -> Instance:  # noqa: ANN401 - JSON
    group = str(entry.get("video_id")) if isinstance(entry, Mapping) else ""
    if group not in sizes:
        raise InputError(f"{where}: expected an object with the video_id of one of the videos, got {entry!r:.60}")
    size = sizes[group]
    amodal = decode_masks(entry.get("segmentations"), size, where=f"{where}: segmentations")
    if "visible_masks" in entry:
        rate = occlusion_rate(decode_masks(entry["visible_masks"], size, where=f"{where}: visible_masks"), amodal)
    else:
        rate = _given_rate(entry.get("occlude_rate"), where=f"{where}: occlude_rate")
    category = entry.get("category_id", 1)
    if not isinstance(category, int):
        raise InputError(f"{where}: category_id: expected an integer, got {category!r:.40}")
    return Instance.from_masks(group, amodal, category=category, occlusion=rate)


def _given_rate(values: object, *, where: str) -> float:
    """Rate of a track of which each frame's is given; NaN without any."""
    if values is None:
        return math.nan
    kept = [value for value in values if value is not None] if isinstance(values, Sequence) else None
    if kept is None or not all(isinstance(value, int | float) and 0 <= value <= 1 for value in kept):
        raise InputError(f"{where}: expected a number from 0 to 1, or null, for each frame, got {values!r:.60}")
    return track_rate(np.asarray(kept, dtype=np.float64)) if kept else math.nan
