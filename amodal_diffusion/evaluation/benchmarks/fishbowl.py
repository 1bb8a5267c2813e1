"""The benchmark of Fishbowl-style mask videos: a video, its visible masks as JSON, and each object's without others."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from amodal_diffusion.basics import InputError
from amodal_diffusion.evaluation.benchmarks.base import FileBenchmark, MaskTarget, given_inputs, read_json
from amodal_diffusion.io.coco import SLIVERS, count_slivers, decode_coco_mask, may_be_visible
from amodal_diffusion.io.depth_files import read_depth
from amodal_diffusion.io.images import natural_key
from amodal_diffusion.io.video_reader import read_clip
from amodal_diffusion.types import BoolArray, FloatArray, VideoClip

VIDEO, MASKS = "video.mp4", "objects.json"
logger = logging.getLogger(__name__)
_OBJECT = "_object"  # in the name of an object's folder, after that of the video's


def open_fishbowl(data: Path, *, depth: Path | None = None, limit: int | None = None) -> FileBenchmark:
    """Open the benchmark: each object that has whole masks and is visible in at least one frame is a track.

    Identities are ``fishbowl/VIDEO/OBJECT``: the name of the video's folder, and the object's number.

    Args:
        data: folder of videos, see docs/data.md.
        depth: has ``VIDEO`` or ``VIDEO.npy`` for each, see :func:`~amodal_diffusion.io.depth_files.read_depth`.
        limit: number of tracks, from the first; None for all.

    Raises:
        InputError: if there is no video, or masks cannot be read.
    """
    found = list(islice(_objects(data), limit))
    identities = [f"fishbowl/{item.video.name}/{item.number}" for item in found]
    inputs = given_inputs(data=data, depth=depth)
    return FileBenchmark("fishbowl", inputs, identities, lambda index, identity: found[index].read(identity, depth))


@dataclass(frozen=True)
class _Object:
    """An object of a video.

    Attributes:
        video: folder of the video.
        number: of the object.
        whole: file of its masks without others.
    """

    video: Path
    number: int
    whole: Path

    def read(self, identity: str, depth: Path | None) -> MaskTarget:
        rgb, fps = read_clip(_video_file(self.video))
        size = rgb.shape[1], rgb.shape[2]
        modal = _decoded(_read_masks(self.video / MASKS)[self.number], size, f"{self.video / MASKS}: {self.number}")
        amodal = _decoded(_read_masks(self.whole)[self.number], size, f"{self.whole}: {self.number}")
        if len(amodal) != len(modal):
            raise InputError(f"{self.whole}: {len(amodal)} masks for {len(modal)} in {self.video / MASKS}")
        return MaskTarget(
            identity=identity,
            clip=VideoClip(rgb, modal, fps),
            amodal_mask=amodal,
            depth=None if depth is None else self._depth(depth, modal.shape),
        )

    def _depth(self, root: Path, shape: tuple[int, ...]) -> FloatArray:
        place = root / self.video.name
        depth = read_depth(place if place.is_dir() else place.with_name(f"{place.name}.npy"))
        if depth.shape != shape:
            raise InputError(f"{place}: expected depth [F, H, W] of {list(shape)}, got {list(depth.shape)}")
        return depth


def _objects(data: Path) -> Iterator[_Object]:
    if not data.is_dir():
        raise InputError(f"{data}: no such folder")
    alone = _files_of_objects(data)
    videos = sorted((path.parent for path in data.glob(f"*/{MASKS}")), key=lambda path: natural_key(path.name))
    videos = [video for video in videos if _OBJECT not in video.name]
    if not videos:
        raise InputError(f"{data}: no video here; expected folders that hold {VIDEO} and {MASKS}")
    for video in videos:
        whole = {number: path for path in alone.get(video.name, ()) for number in _read_masks(path)}
        for number, masks in sorted(_read_masks(video / MASKS).items()):
            if number in whole and any(map(_may_be_visible, masks)):
                yield _Object(video, number, whole[number])


def _files_of_objects(data: Path) -> dict[str, list[Path]]:
    """Files of the masks of objects without others by name of the video, from among the videos or beside them."""
    found: dict[str, list[Path]] = {}
    for root in (data, _beside(data, "objects")):
        for path in sorted(root.glob(f"*{_OBJECT}*/{MASKS}")):
            found.setdefault(path.parent.name.split(_OBJECT)[0], []).append(path)
    return found


def _video_file(video: Path) -> Path:
    """The video, or its frames as pictures from beside the videos."""
    frames = _beside(video.parent, "frames") / video.name
    return frames if frames.is_dir() and not (video / VIDEO).exists() else video / VIDEO


def _beside(data: Path, what: str) -> Path:
    whole = data.resolve()
    return whole.with_name(f"{whole.name}_{what}")


def _read_masks(path: Path) -> Mapping[int, list[Any]]:
    """Masks of each frame, as JSON has them, by object."""
    content = read_json(path)
    masks: dict[int, list[Any]] = {}
    for entry in content if isinstance(content, list) else [content]:
        if (
            not isinstance(entry, dict)
            or not isinstance(entry.get("id"), int)
            or not isinstance(entry.get("masks"), list)
        ):
            raise InputError(f"{path}: expected a list of objects with id and masks, got {entry!r:.60}")
        masks[entry["id"]] = entry["masks"]
    return masks


def _may_be_visible(mask: object) -> bool:
    """Whether a mask has a pixel; a damaged one may, so that it is found when it is read."""
    size = mask.get("size") if isinstance(mask, dict) else None
    if not isinstance(size, list) or len(size) != 2 or not all(isinstance(side, int) for side in size):
        return mask is not None
    return may_be_visible(mask, *size)


def _decoded(masks: list[Any], size: tuple[int, int], where: str) -> BoolArray:
    """Masks of all frames, bool ``[F, H, W]``."""
    decoded = np.empty((len(masks), *size), dtype=np.bool_)
    for frame, mask in enumerate(masks):
        try:
            decoded[frame] = decode_coco_mask(mask, *size)
        except InputError as error:
            raise InputError(f"{where}: frame {frame}: {error}") from error
    if slivers := count_slivers(masks):
        logger.warning(SLIVERS, where, slivers)
    return decoded
