"""One generated scene, written in the format of each benchmark: the same frames, masks and depth in all of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from amodal_diffusion.data.records import TrackRecord, write_records
from amodal_diffusion.frames.masks import encode_rle
from amodal_diffusion.metrics import boxes_of
from amodal_diffusion.synthetic import make_scene
from amodal_diffusion.synthetic.scenes import Scene, SceneTrack
from amodal_diffusion.types import BoolArray, FloatArray, UInt8Array
from tests.media import encode, write_masks

FRAMES, HEIGHT, WIDTH = 4, 32, 48


@cache
def scene() -> Scene:
    """A clip of 32 x 48 pixels with several objects that hide each other."""
    return make_scene(1, split="train", frames=FRAMES, height=HEIGHT, width=WIDTH)


def objects() -> list[SceneTrack]:
    """The scene's objects that are ever visible."""
    return [track for track in scene().tracks if track.modal.any()]


def frames() -> UInt8Array:
    """The scene's frames, uint8 ``[F, H, W, 3]``."""
    rgb = scene().rgb
    assert rgb is not None
    return rgb


def nearness() -> FloatArray:
    """Depth that no format rounds: whole numbers from 1, nearer is larger."""
    depth = scene().depth
    share = (depth - depth.min()) / (depth.max() - depth.min())
    return np.rint(1 + share * 254).astype(np.float32)


def write_frames(folder: Path, *, depth: Path | None = None) -> list[str]:
    """Write frames, and depth under the same names; returns the names below the folder of the clip's folder."""
    for root, pictures in ((folder, frames()), (depth, nearness().astype(np.uint8))):
        if root is not None:
            root.mkdir(parents=True, exist_ok=True)
            for frame, picture in enumerate(pictures):
                Image.fromarray(picture).save(root / f"{frame:05d}.png")
    return [f"{folder.name}/{frame:05d}.png" for frame in range(FRAMES)]


def write_sailvos(root: Path) -> Path:
    """An annotation file, its frames in ``clip``, their depth below ``depth``."""
    names = write_frames(root / "clip", depth=root / "depth/clip")
    records = [
        TrackRecord.from_masks(
            item.modal, item.amodal, image_ids=range(FRAMES), image_file_names=names, obj_id=item.track_id
        )
        for item in objects()
    ]
    write_records(root / "annotations.json", records)
    return root / "annotations.json"


def write_tao(root: Path) -> Path:
    """An annotation file of boxes, its frames in ``clip``, their depth below ``depth``."""
    names = write_frames(root / "clip", depth=root / "depth/clip")
    entries = [
        {
            "track_id": item.track_id,
            "category_id": 1,
            "video_id": 7,
            "file_names": names,
            "rles": [encode_rle(mask)["counts"] for mask in item.modal],
            "height": HEIGHT,
            "width": WIDTH,
            "amodal_bboxes": boxes_of(item.amodal).tolist(),
        }
        for item in objects()
    ]
    return _write_json(root / "tao.json", entries)


def write_movi(root: Path, *, prefix: str = "") -> Path:
    """A clip as Kubric writes it, with a segmentation of each object alone beside the scene's."""
    clip = root / "0007"
    _write_scene(clip, prefix, [(index + 1, item) for index, item in enumerate(objects())])
    for index, item in enumerate(objects()):
        for frame, mask in enumerate(item.amodal):
            _save_labels(clip / f"segmentation_{index}_{frame:05d}.png", mask * np.uint8(index + 1))
    _write_json(clip / "metadata.json", {"metadata": {"frame_rate": 24, "num_frames": FRAMES}})
    return root


def write_movi_objects(root: Path) -> Path:
    """A clip of one camera with a folder for each object alone, its colors among them."""
    clip = root / "scene/camera_0000"
    _write_scene(clip, "", [(item.track_id, item) for item in objects()])
    for item in objects():
        assert item.rgb is not None
        folder = clip / f"obj_{item.track_id:04d}"
        folder.mkdir()
        for frame, (rgb, mask) in enumerate(zip(item.rgb, item.amodal, strict=True)):
            _save_labels(folder / f"segmentation_{frame:05d}.png", mask * np.uint8(255))
            rgba = np.concatenate([rgb, (mask * np.uint8(255))[..., None]], axis=-1)
            Image.fromarray(rgba).save(folder / f"rgba_{frame:05d}.png")
    return root


def write_fishbowl(root: Path) -> Path:
    """A video with visible masks, and the masks of each object without others; depth in ``depth``."""
    videos = root / "test"
    (videos / "00003").mkdir(parents=True)
    encode(videos / "00003/video.mp4", frames())
    _write_json(videos / "00003/objects.json", [_fish(item, item.modal) for item in objects()])
    for item in objects():
        folder = root / "test_objects" / f"00003_object{item.track_id:03d}"
        folder.mkdir(parents=True)
        _write_json(folder / "objects.json", [_fish(item, item.amodal)])
    write_frames(root / "unused", depth=root / "depth/00003")
    return videos


def write_kins(root: Path) -> Path:
    """An annotation file of the scene's frames as single images, an annotation an object."""
    annotations = [
        {
            "id": 100 * frame + item.track_id,
            "image_id": 10 + frame,
            "category_id": 4,
            "a_segm": encode_rle(item.amodal[frame]),
            "i_segm": encode_rle(item.modal[frame]),
        }
        for frame in range(FRAMES)
        for item in objects()
    ]
    return _write_json(root / "kins.json", {"images": _images(root), "annotations": annotations})


def write_cocoa(root: Path) -> Path:
    """Likewise, an annotation an image with a list of regions; objects that are all visible have no visible mask."""
    annotations = [
        {
            "image_id": 10 + frame,
            "regions": [
                {"order": order, "name": "thing", "isStuff": 0, "segmentation": encode_rle(item.amodal[frame])}
                | _hidden_parts(item, frame)
                for order, item in enumerate(objects(), start=1)
            ],
        }
        for frame in range(FRAMES)
    ]
    return _write_json(root / "cocoa.json", {"images": _images(root), "annotations": annotations})


def write_folder(root: Path) -> Path:
    """A clip as folders of pictures, with depth and whole objects."""
    clip = root / "set/clip"
    write_frames(clip / "images", depth=clip / "depth")
    for item in objects():
        assert item.rgb is not None
        name = f"thing{item.track_id}"
        write_masks(clip / "modal" / name, item.modal)
        write_masks(clip / "amodal" / name, item.amodal)
        write_masks(clip / "objects" / name, item.rgb)
    return root


def labels(pairs: Sequence[tuple[int, BoolArray]]) -> npt.NDArray[np.uint8]:
    """Pictures of numbers, uint8 ``[F, H, W]``; masks do not overlap."""
    values = np.zeros((FRAMES, HEIGHT, WIDTH), dtype=np.uint8)
    for value, mask in pairs:
        values[mask] = value
    return values


def _write_scene(clip: Path, prefix: str, items: Sequence[tuple[int, SceneTrack]]) -> None:
    clip.mkdir(parents=True)
    opaque = np.full((HEIGHT, WIDTH, 1), 255, dtype=np.uint8)
    values = labels([(value, item.modal) for value, item in items])
    for frame, (rgb, depth) in enumerate(zip(frames(), nearness(), strict=True)):
        name = f"{prefix}{frame:05d}"
        Image.fromarray(np.concatenate([rgb, opaque], axis=-1)).save(clip / f"rgba_{name}.png")
        Image.fromarray(1 / depth).save(clip / f"depth_{name}.tiff")
        _save_labels(clip / f"segmentation_{name}.png", values[frame])


def _save_labels(path: Path, values: npt.NDArray[np.uint8]) -> None:
    """As Kubric does: the numbers are indices of a palette."""
    picture = Image.fromarray(values)
    picture.putpalette([channel for entry in range(256) for channel in (255 - entry, entry, entry // 2)])
    picture.save(path)


def _fish(item: SceneTrack, masks: BoolArray) -> dict[str, object]:
    return {"id": item.track_id, "type_name": "fish", "masks": [encode_rle(mask) for mask in masks]}


def _images(root: Path) -> list[dict[str, object]]:
    names = write_frames(root / "clip", depth=root / "depth/clip")
    return [{"id": 10 + frame, "file_name": name, "height": HEIGHT, "width": WIDTH} for frame, name in enumerate(names)]


def _hidden_parts(item: SceneTrack, frame: int) -> dict[str, object]:
    modal, amodal = item.modal[frame], item.amodal[frame]
    if (modal == amodal).all():
        return {}
    return {"visible_mask": encode_rle(modal), "invisible_mask": encode_rle(amodal & ~modal)}


def _write_json(path: Path, content: object) -> Path:
    path.write_text(json.dumps(content), encoding="utf-8")
    return path
