"""Export of generated scenes and composites: an annotation file; frames, depth, complete objects and masks as PNG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image
from tqdm import tqdm

from amodal_diffusion.data.composites import CompositeDataset
from amodal_diffusion.data.records import TrackRecord, read_records, write_records
from amodal_diffusion.io.images import write_mask_png
from amodal_diffusion.io.result_folder import OutputFolder
from amodal_diffusion.synthetic.scenes import Scene, SceneTrack
from amodal_diffusion.types import FloatArray, UInt8Array

ANNOTATIONS = "annotations.json"
DEPTH_STEPS = 65535
_STEPS = 16
"""Number of export steps. An interrupted export resumes at a step; each step rewrites the whole manifest."""


@dataclass(frozen=True)
class CompositeScene:
    """A composite as a scene of one object.

    Attributes:
        name: split and seed.
        rgb: frames, uint8 ``[F, H, W, 3]``.
        depth: true depth, float32 ``[F, H, W]``, nearer is larger.
        tracks: the target alone; what hides it has no masks of its own.
    """

    name: str
    rgb: UInt8Array | None
    depth: FloatArray
    tracks: tuple[SceneTrack, ...]


class ExportedSeries(Protocol):
    """Clips that can be written, such as a `SceneSeries`."""

    @property
    def length(self) -> int:
        """Number of clips."""

    @property
    def frames(self) -> int:
        """F, frames of a clip."""

    def name(self, index: int) -> str:
        """Name of a clip, without making it."""

    def scene(self, index: int, *, with_rgb: bool) -> Scene | CompositeScene:
        """Make one clip."""


@dataclass(frozen=True)
class CompositeSeries:
    """Composites without errors of tools, as scenes.

    Attributes:
        clips: the composites; those of ``test-v2`` are compared with their frozen digests when they are made.
        frames: F, frames of a clip.
    """

    clips: CompositeDataset
    frames: int

    @property
    def length(self) -> int:
        """Number of clips."""
        return len(self.clips)

    def name(self, index: int) -> str:
        """Name of a clip, without making it."""
        return self.clips.name(index)

    def scene(self, index: int, *, with_rgb: bool) -> CompositeScene:
        """Make one clip.

        Raises:
            IndexError: if the index is out of range.
            InputError: if a clip of ``test-v2`` is not the frozen one.
        """
        sample = self.clips[index]
        if sample.depth is None:
            raise RuntimeError(f"{sample.name}: composites for export are made with depth")
        target = SceneTrack(1, sample.modal, sample.amodal, sample.whole_rgb if with_rgb else None)
        return CompositeScene(sample.name, sample.rgb if with_rgb else None, sample.depth, (target,))


def export_scenes(series: ExportedSeries, folder: OutputFolder, *, masks: bool, quiet: bool) -> int:
    """Write a series of scenes into an open result folder; steps that were finished before are skipped.

    Args:
        series: the scenes.
        folder: result folder, opened and committed by the caller.
        masks: whether to write masks as images as well.
        quiet: whether to hide the progress bars.

    Returns:
        number of tracks in the annotation file.
    """
    if not folder.is_finished(ANNOTATIONS):
        with folder.step(ANNOTATIONS, [ANNOTATIONS]) as work:
            _annotate(series, work / ANNOTATIONS, quiet=quiet)
    objects = _objects_by_scene(folder.work / ANNOTATIONS)
    size = -(-series.length // _STEPS)
    with tqdm(total=series.length, desc="frames", unit="clip", disable=quiet) as bar:
        for start in range(0, series.length, size):
            part = range(start, min(start + size, series.length))
            step = f"clips from {start}"
            if not folder.is_finished(step):
                names = [(series.name(index), objects[series.name(index)]) for index in part]
                files = [
                    path
                    for name, ids in names
                    for path in scene_files(name, frames=series.frames, object_ids=ids, masks=masks)
                ]
                with folder.step(step, files) as work:
                    for index, (_, ids) in zip(part, names, strict=True):
                        write_scene(series.scene(index, with_rgb=True), work, object_ids=ids, masks=masks)
                        bar.update()
            else:
                bar.update(len(part))
    return sum(map(len, objects.values()))


def _annotate(series: ExportedSeries, path: Path, *, quiet: bool) -> None:
    numbers = tqdm(range(series.length), desc="masks", unit="clip", disable=quiet)
    scenes = ((number, series.scene(number, with_rgb=False)) for number in numbers)
    write_records(path, (record for number, scene in scenes for record in scene_records(scene, number=number)))


def _objects_by_scene(path: Path) -> dict[str, list[int]]:
    """Ids of the visible objects by scene name, in the order of the file."""
    objects: dict[str, list[int]] = {}
    for record in read_records(path):
        objects.setdefault(record.image_file_names[0].split("/")[0], []).append(record.obj_id)
    return objects


def scene_records(scene: Scene | CompositeScene, *, number: int) -> list[TrackRecord]:
    """Records of all objects of a scene that are visible in some frame, the target first.

    Args:
        scene: with or without RGB.
        number: index of the scene in the annotation file, from 0, which makes image ids unique.
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
    """Paths, with ``/``, of the files that `write_scene` writes.

    Args:
        name: name of the scene.
        frames: F.
        object_ids: objects that are written.
        masks: whether masks are written as images.
    """
    kinds = ("objects", "modal", "amodal") if masks else ("objects",)
    folders = ["images", "depth", *(f"{kind}/{object_id}" for kind in kinds for object_id in object_ids)]
    return [f"{name}/{folder}/{frame:05d}.png" for folder in folders for frame in range(frames)]


def write_scene(scene: Scene | CompositeScene, folder: Path, *, object_ids: Sequence[int], masks: bool = False) -> None:
    """Write the images of a scene into existing folders.

    ``NAME/images`` has the frames, ``NAME/depth`` 16-bit depth from 0 (farthest in the clip) to 65535 (nearest),
    ``NAME/objects/ID`` the complete object on white, ``NAME/modal/ID`` and ``NAME/amodal/ID`` its masks.

    Args:
        scene: with RGB.
        folder: root of the data set.
        object_ids: objects to write.
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
    """Scale depth to the 16-bit range, uint16 ``[F, H, W]``; constant depth becomes 0."""
    low, high = float(depth.min()), float(depth.max())
    scale = DEPTH_STEPS / (high - low) if high > low else 0.0
    return np.rint((depth.astype(np.float64) - low) * scale).astype(np.uint16)
