"""Scenes as files: frames, depth and whole objects as PNG, and annotation records of every object."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from amodal_diffusion.data.records import TrackRecord
from amodal_diffusion.io.images import write_mask_png
from amodal_diffusion.synthetic.scenes import Scene
from amodal_diffusion.types import FloatArray

DEPTH_STEPS = 65535


def scene_records(scene: Scene, *, number: int) -> list[TrackRecord]:
    """Describe every object of a scene that is ever visible, the target first.

    Args:
        scene: with or without RGB.
        number: of the scene among those of the file, so that image ids are unique.
    """
    frames = range(len(scene.depth))
    return [
        TrackRecord.from_masks(
            track.modal,
            track.amodal,
            image_ids=[number * len(frames) + frame for frame in frames],
            image_file_names=[f"{scene.name}/images/{frame:05d}.png" for frame in frames],
            obj_id=track.track_id,
        )
        for track in scene.tracks
        if track.modal.any()
    ]


def scene_files(name: str, *, frames: int, object_ids: Sequence[int], masks: bool = False) -> list[str]:
    """Paths, with ``/``, of what `write_scene` writes.

    Args:
        name: the scene's.
        frames: number of them.
        object_ids: those of the scene's records.
        masks: whether masks are written as pictures.
    """
    kinds = ("objects", "modal", "amodal") if masks else ("objects",)
    folders = ["images", "depth", *(f"{kind}/{object_id}" for kind in kinds for object_id in object_ids)]
    return [f"{name}/{folder}/{frame:05d}.png" for folder in folders for frame in range(frames)]


def write_scene(scene: Scene, folder: Path, *, object_ids: Sequence[int], masks: bool = False) -> None:
    """Write a scene's pictures; their folders exist.

    ``NAME/images`` has the frames, ``NAME/depth`` 16-bit depth from 0 (far) to 65535 (near) over the clip,
    ``NAME/objects/ID`` the whole object on white, ``NAME/modal/ID`` and ``NAME/amodal/ID`` its masks.

    Args:
        scene: with RGB.
        folder: data set's root.
        object_ids: the objects to write.
        masks: whether to write masks.

    Raises:
        ValueError: if the scene has no RGB.
    """
    if scene.rgb is None:
        raise ValueError(f"scene: expected one with RGB, got {scene.name} without; make it with_rgb")
    clip = folder / scene.name
    depth = _depth_steps(scene.depth)
    for frame in range(len(depth)):
        name = f"{frame:05d}.png"
        Image.fromarray(scene.rgb[frame]).save(clip / "images" / name)
        Image.fromarray(depth[frame]).save(clip / "depth" / name)
        for track in scene.tracks:
            if track.rgb is None or track.track_id not in object_ids:
                continue
            Image.fromarray(track.rgb[frame]).save(clip / "objects" / str(track.track_id) / name)
            if masks:
                write_mask_png(clip / "modal" / str(track.track_id) / name, track.modal[frame])
                write_mask_png(clip / "amodal" / str(track.track_id) / name, track.amodal[frame])


def _depth_steps(depth: FloatArray) -> np.ndarray:
    """Spread depth over the range of 16 bits, uint16 ``[F, H, W]``; constant depth becomes 0."""
    low, high = float(depth.min()), float(depth.max())
    scale = DEPTH_STEPS / (high - low) if high > low else 0.0
    return np.rint((depth.astype(np.float64) - low) * scale).astype(np.uint16)
