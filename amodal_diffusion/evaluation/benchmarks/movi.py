"""The benchmark of MOVi-style clips: what Kubric writes for a scene, and a render of each object alone."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from amodal_diffusion.basics import InputError
from amodal_diffusion.evaluation.benchmarks.base import FileBenchmark, MaskTarget, read_json
from amodal_diffusion.io.images import natural_key, read_floats, read_integers
from amodal_diffusion.io.pictures import read_frames
from amodal_diffusion.types import BoolArray, FloatArray, UInt8Array, VideoClip

FPS = 12.0
"""Of all MOVi sets, for a clip that does not say."""
_LAYER = re.compile(r"(rgba|segmentation|depth)_(?:full_)?(\d+)\.(?:png|tiff?)")
_ALONE = re.compile(r"segmentation_(\d+)_(\d+)\.png")
_OBJECT = re.compile(r"obj_(\d+)")
_STEPS = 65535

Files = dict[int, Path]
"""Pictures by frame."""


@dataclass
class MoviObject:
    """An object that was also rendered alone.

    Attributes:
        number: in the names of its files.
        value: of its pixels in the scene's segmentation.
        masks: segmentation of the object alone.
        rgba: the object alone, where it was kept.
    """

    number: int
    value: int
    masks: Files = field(default_factory=dict)
    rgba: Files = field(default_factory=dict)


@dataclass
class MoviClip:
    """The files of a clip.

    Attributes:
        path: its folder.
        rgba: frames.
        segmentation: number of the object that is seen at each pixel.
        depth: distances, where there are any.
        objects: by number.
    """

    path: Path
    rgba: Files = field(default_factory=dict)
    segmentation: Files = field(default_factory=dict)
    depth: Files = field(default_factory=dict)
    objects: dict[int, MoviObject] = field(default_factory=dict)

    @classmethod
    def of(cls, path: Path) -> MoviClip:
        """List a clip's folder, see docs/data.md."""
        clip = cls(path)
        layers = {"rgba": clip.rgba, "segmentation": clip.segmentation, "depth": clip.depth}
        for file in path.iterdir():
            if layer := _LAYER.fullmatch(file.name):
                layers[layer[1]][int(layer[2])] = file
            elif alone := _ALONE.fullmatch(file.name):
                number = int(alone[1])
                clip.objects.setdefault(number, MoviObject(number, number + 1)).masks[int(alone[2])] = file
            elif folder := _OBJECT.fullmatch(file.name):
                number = int(folder[1])
                inside = cls.of(file)
                clip.objects[number] = MoviObject(number, number, inside.segmentation, inside.rgba)
        return clip

    @property
    def num_frames(self) -> int:
        """Number of frames F: one more than the last that any picture is of."""
        alone = (frame for item in self.objects.values() for frame in item.masks)
        return max((*self.rgba, *self.segmentation, *self.depth, *alone)) + 1

    def ordered(self, files: Mapping[int, Path], what: str) -> list[Path]:
        """The pictures of all F frames in order.

        Raises:
            InputError: if one is missing.
        """
        missing = [frame for frame in range(self.num_frames) if frame not in files]
        if missing:
            raise InputError(
                f"{self.path}: {what}: expected pictures of {self.num_frames} frames, got none of frame {missing[0]}"
            )
        return [files[frame] for frame in range(self.num_frames)]

    def visible_values(self) -> set[int]:
        """Values of the scene's segmentation."""
        return {value for file in self.segmentation.values() for value in _values_of(read_integers(file).values)}


def open_movi(data: Path, *, limit: int | None = None) -> FileBenchmark:
    """Open the benchmark: each object that was rendered alone and is visible in at least one frame is a track.

    Identities are ``movi/CLIP/OBJECT``: the clip's path below the folder, and the object's number in file names.

    Args:
        data: folder of clips, see docs/data.md.
        limit: number of tracks, from the first; None for all.

    Raises:
        InputError: if there is no clip, or a segmentation cannot be read.
    """
    found = list(islice(_objects(data), limit))
    identities = ["/".join(("movi", *clip.relative_to(data).parts, str(number))) for clip, number in found]
    return FileBenchmark("movi", {"data": data}, identities, lambda index, identity: _read(*found[index], identity))


def _objects(data: Path) -> Iterator[tuple[Path, int]]:
    """Clips and the numbers of their objects; what a clip's files are is looked up again when they are read."""
    for path in _clips(data):
        clip = MoviClip.of(path)
        visible = clip.visible_values()
        for number, item in sorted(clip.objects.items()):
            if item.value in visible:
                yield path, number


def _clips(data: Path) -> list[Path]:
    """Folders at or below one that hold a segmentation, in natural order."""
    if not data.is_dir():
        raise InputError(f"{data}: no such folder")
    found = []
    for place, folders, files in os.walk(data, followlinks=True):
        if any((layer := _LAYER.fullmatch(name)) and layer[1] == "segmentation" for name in files):
            found.append(Path(place))
            folders.clear()  # what is inside belongs to the clip
    if not found:
        raise InputError(
            f"{data}: no clip here; expected folders with segmentation_00000.png, rgba_00000.png and so on"
        )
    return sorted(found, key=lambda path: natural_key(str(path)))


def _read(path: Path, number: int, identity: str) -> MaskTarget:
    clip = MoviClip.of(path)
    item = clip.objects[number]
    files = clip.ordered(clip.segmentation, "segmentation")
    values = [read_integers(file).values for file in files]
    size = values[0].shape[0], values[0].shape[1]
    scene = np.stack([_sized(picture, size, file) for picture, file in zip(values, files, strict=True)])
    return MaskTarget(
        identity=identity,
        clip=VideoClip(_read_rgb(clip, clip.rgba, "rgba", size), scene == item.value, _fps(path)),
        amodal_mask=_read_alone(clip, item, size),
        depth=_read_nearness(clip, size),
        amodal_rgb=_read_rgb(clip, item.rgba, f"object {number}: rgba", size) if item.rgba else None,
    )


def _read_rgb(clip: MoviClip, files: Files, what: str, size: tuple[int, int]) -> UInt8Array:
    return read_frames(clip.ordered(files, what), size)


def _read_alone(clip: MoviClip, item: MoviObject, size: tuple[int, int]) -> BoolArray:
    """The whole object, bool ``[F, H, W]``: all that is not background where it is alone."""
    masks = []
    for file in clip.ordered(item.masks, f"object {item.number}: segmentation"):
        values = read_integers(file).values
        inside = [value for value in _values_of(values) if value > 0]
        if len(inside) > 1:
            raise InputError(f"{file}: expected one object alone, got the values {inside}")
        masks.append(_sized(values, size, file) > 0)
    return np.stack(masks)


def _values_of(picture: npt.NDArray[np.uint16]) -> list[int]:
    """Values that a picture has, rising; an order of magnitude quicker than by sorting its pixels."""
    return [int(value) for value in np.flatnonzero(np.bincount(picture.ravel()))]


def _read_nearness(clip: MoviClip, size: tuple[int, int]) -> FloatArray | None:
    """The inverse of the distance, float32 ``[F, H, W]``; 0 where nothing was hit."""
    if not clip.depth:
        return None
    distances = [_sized(_read_distance(file), size, file) for file in clip.ordered(clip.depth, "depth")]
    distance = np.stack(distances)
    return np.divide(1, distance, out=np.zeros_like(distance), where=distance > 0)


def _read_distance(file: Path) -> FloatArray:
    if file.suffix != ".png":
        return read_floats(file)
    ranges = _read_object(file.with_name("data_ranges.json")).get("depth")
    if not isinstance(ranges, dict) or not {"min", "max"} <= ranges.keys():
        raise InputError(f"{file}: expected depth with min and max in data_ranges.json, which scale 16-bit distances")
    low, high = float(ranges["min"]), float(ranges["max"])
    return (read_integers(file).values * ((high - low) / _STEPS) + low).astype(np.float32)


def _sized(values: npt.NDArray[Any], size: tuple[int, int], file: Path) -> npt.NDArray[Any]:
    if values.shape != size:
        raise InputError(f"{file}: {values.shape[1]}x{values.shape[0]} pixels for a scene of {size[1]}x{size[0]}")
    return values


def _fps(path: Path) -> float:
    scene = _read_object(path / "metadata.json").get("metadata")
    rate = scene.get("frame_rate") if isinstance(scene, dict) else None
    return float(rate) if isinstance(rate, int | float) else FPS


def _read_object(path: Path) -> Mapping[str, Any]:
    """A JSON object; empty where there is no file."""
    content = read_json(path) if path.is_file() else {}
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected a JSON object, got {type(content).__name__}")
    return content
