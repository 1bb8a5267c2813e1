"""Small data sets in the layout of SAIL-VOS sequences, made of generated scenes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from amodal_diffusion.data.records import TrackRecord, write_records
from amodal_diffusion.data.scene_export import scene_files, scene_records, write_scene
from amodal_diffusion.synthetic import make_scene
from amodal_diffusion.types import BoolArray

FRAMES, HEIGHT, WIDTH = 4, 32, 48


def write_tracks(folder: Path, count: int = 3, *, frames: int = FRAMES) -> Path:
    """Write scenes of 32 x 48 pixels with their frames; returns the annotation file, one track a visible object."""
    records = []
    for seed in range(count):
        scene = make_scene(seed, split="train", frames=frames, height=HEIGHT, width=WIDTH)
        mine = scene_records(scene, number=seed)
        ids = [record.obj_id for record in mine]
        for file in scene_files(scene.name, frames=frames, object_ids=ids):
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
        write_scene(scene, folder, object_ids=ids)
        records += mine
    write_records(folder / "annotations.json", records)
    return folder / "annotations.json"


def square(frames: int, size: int, places: list[tuple[int, int]], *, side: int) -> BoolArray:
    """Masks of a square that has its upper left corner at a place in each frame, bool ``[F, size, size]``."""
    masks = np.zeros((frames, size, size), dtype=np.bool_)
    for mask, (row, column) in zip(masks, places, strict=True):
        mask[row : row + side, column : column + side] = True
    return masks


def record_of(modal: BoolArray, amodal: BoolArray, *, obj_id: int = 1, clip: str = "clip") -> TrackRecord:
    """A track with numbered frames that need not exist."""
    frames = range(len(modal))
    names = [f"{clip}/images/{frame:05d}.png" for frame in frames]
    return TrackRecord.from_masks(modal, amodal, image_ids=list(frames), image_file_names=names, obj_id=obj_id)
