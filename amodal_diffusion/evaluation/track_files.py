"""Writes a target as input files for `complete`, and reads back what `complete` wrote."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from amodal_diffusion.basics import InputError
from amodal_diffusion.evaluation.benchmarks.base import MaskTarget
from amodal_diffusion.frames.masks import cut_out_on_white
from amodal_diffusion.io.images import list_pictures, read_integers, read_rgba
from amodal_diffusion.types import AmodalResult


@dataclass(frozen=True)
class TrackFiles:
    """Input files of a completion.

    Attributes:
        frames: folder of pictures.
        masks: folder of modal masks.
        depth: ``.npy`` file, nearer is larger; None without depth.
    """

    frames: Path
    masks: Path
    depth: Path | None


def write_track(track: MaskTarget, folder: Path, *, overwrite: bool = False) -> TrackFiles:
    """Write frames, modal masks and depth.

    A file that already has the right content is left alone, so that its time of modification stays.

    Args:
        track: the target to write.
        folder: folder of the files; created if it is missing.
        overwrite: replace files that hold something else.

    Raises:
        InputError: if a file holds something else and may not be replaced.
    """
    depth = None if track.depth is None else folder / "depth.npy"
    files = TrackFiles(folder / "frames", folder / "masks", depth)
    for path in (files.frames, files.masks):
        path.mkdir(parents=True, exist_ok=True)
    for index, (rgb, mask) in enumerate(zip(track.clip.rgb, track.clip.modal_mask, strict=True)):
        _keep(files.frames / f"{index:05d}.png", _png(rgb), overwrite=overwrite)
        _keep(files.masks / f"{index:05d}.png", _png(mask.astype(np.uint8) * np.uint8(255)), overwrite=overwrite)
    if depth is not None:
        buffer = io.BytesIO()
        np.save(buffer, np.asarray(track.depth))
        _keep(depth, buffer.getvalue(), overwrite=overwrite)
    return files


def read_completion(folder: Path, *, object_name: str) -> AmodalResult:
    """Read one object back from the folder that `amodal-diffusion complete` wrote.

    Args:
        folder: folder of the results, finished or not.
        object_name: the object's ID.
    """
    place = folder / "objects" / object_name
    masks = np.stack([read_integers(path).values > 0 for path in list_pictures(place / "amodal_masks")])
    rgba = np.stack([read_rgba(path) for path in list_pictures(place / "completed")])
    return AmodalResult(masks, cut_out_on_white(rgba[..., :3], masks), rgba)


def _png(picture: npt.NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="PNG")
    return buffer.getvalue()


def _keep(path: Path, content: bytes, *, overwrite: bool) -> None:
    """Write a file unless it already has this content."""
    if path.is_file():
        if path.read_bytes() == content:
            return
        if not overwrite:
            raise InputError(f"{path}: exists with another content; choose another folder, or --overwrite")
    path.write_bytes(content)
