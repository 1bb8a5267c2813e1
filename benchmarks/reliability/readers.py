"""Every reader of the package with small right files for it, which `benchmarks/fuzz.py` damages."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
from PIL import Image

from amodal_diffusion.basics import InputError
from amodal_diffusion.data.amodal_images import AmodalImageIndex
from amodal_diffusion.data.clip_list import read_clip_list
from amodal_diffusion.data.json_source import JsonKeys, json_objects
from amodal_diffusion.data.records import TrackRecord, read_records, write_records
from amodal_diffusion.data.sailvos import SailVosDataset
from amodal_diffusion.data.tao_amodal import TaoRecord, read_first_tracks, stream_tao_records
from amodal_diffusion.evaluation.benchmarks.fishbowl import open_fishbowl
from amodal_diffusion.evaluation.prediction_files import PredictionFile, kind_of_results, read_instances
from amodal_diffusion.evaluation.true_instances import TrueInstances
from amodal_diffusion.frames.masks import encode_rle
from amodal_diffusion.io.depth_files import open_depth
from amodal_diffusion.io.images import read_floats, read_integers, read_rgba
from amodal_diffusion.io.mask_files import read_masks
from amodal_diffusion.io.pictures import read_rgb
from amodal_diffusion.io.sound import has_sound
from amodal_diffusion.io.video_reader import open_clip
from amodal_diffusion.models.hub import bundled_models, load_stage

FRAMES, HEIGHT, WIDTH = 4, 32, 48
_ROWS, _COLUMNS = np.mgrid[:HEIGHT, :WIDTH]
Frames = npt.NDArray[np.uint8]
RGB: Frames = np.stack(
    [np.stack([_ROWS * 7, _COLUMNS * 5, np.full_like(_ROWS, 40 * n)], axis=-1).astype(np.uint8) for n in range(FRAMES)]
)
MASKS = np.stack([(_ROWS - 16) ** 2 + (_COLUMNS - 14 - 5 * n) ** 2 < 100 for n in range(FRAMES)])


@dataclass(frozen=True)
class Reader:
    """What reads one kind of input.

    Attributes:
        name: as the table shows it.
        make: writes right inputs into a folder, each a file or a folder of its own.
        read: reads one of them; raises InputError if it is damaged.
    """

    name: str
    make: Callable[[Path], None]
    read: Callable[[Path], object]


def _any_of(*reads: Callable[[], object]) -> None:
    """Read in several ways; what none can read is refused.

    Raises:
        InputError: that of the last way.
    """
    read = False
    for number, one in enumerate(reads):
        try:
            one()
            read = True
        except InputError:
            if number == len(reads) - 1 and not read:
                raise


def _exhaust(items: Iterator[object]) -> None:
    for _ in items:
        pass


def write_video(path: Path, codec: str, pixels: str, *, frames: Frames = RGB) -> None:
    """Encode frames.

    Args:
        path: whose ending names the container.
        codec: FFmpeg's name.
        pixels: FFmpeg's name of their format.
        frames: uint8 ``[F, H, W, 3]`` or ``[F, H, W, 4]``.
    """
    with av.open(str(path), "w") as container:
        quiet = {"x265-params": "log-level=none"} if codec == "libx265" else {}
        stream = container.add_stream(codec, rate=8, options=quiet)
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], pixels  # type: ignore[attr-defined]
        stream.codec_context.thread_count = 1
        for frame in frames:
            picture = av.VideoFrame.from_ndarray(frame, format="rgba" if frame.shape[-1] == 4 else "rgb24")
            container.mux(stream.encode(picture))  # type: ignore[attr-defined]
        container.mux(stream.encode())  # type: ignore[attr-defined]


def _make_videos(folder: Path) -> None:
    for name, codec, pixels in (
        *(("h264.mp4", "libx264", "yuv420p"), ("h264.mkv", "libx264", "yuv444p"), ("h264.ts", "libx264", "yuv420p")),
        *(
            ("mpeg4.avi", "mpeg4", "yuv420p"),
            ("mpeg2.mpg", "mpeg2video", "yuv420p"),
            ("vp9.webm", "libvpx-vp9", "yuv420p"),
        ),
        *(("ffv1.mkv", "ffv1", "bgr0"), ("prores.mov", "prores_ks", "yuva444p10le"), ("flv1.flv", "flv1", "yuv420p")),
        *(("mjpeg.avi", "mjpeg", "yuvj420p"), ("png.mov", "png", "rgb24"), ("hevc.mp4", "libx265", "yuv420p10le")),
    ):
        with suppress(av.FFmpegError, ValueError):  # an encoder that this build lacks
            large = codec == "libx265"  # which damages the heap with frames of a few dozen pixels
            write_video(folder / name, codec, pixels, frames=RGB.repeat(4, 1).repeat(4, 2) if large else RGB)


def _read_video(path: Path) -> None:
    _any_of(
        lambda: _exhaust(iter(open_clip(path))),
        lambda: _exhaust(iter(open_clip(path, allow_truncated=True))),
        lambda: has_sound(path),
    )


def _make_pictures(folder: Path) -> None:
    rgb, gray = Image.fromarray(RGB[0]), Image.fromarray(RGB[0, ..., 0])
    for suffix in ("png", "jpg", "webp", "bmp", "gif", "ppm", "tga", "tiff", "jp2", "avif"):
        rgb.save(folder / f"rgb.{suffix}")
    others = [Image.fromarray(frame) for frame in RGB[1:]]
    for suffix in ("gif", "webp", "png", "tiff"):
        rgb.save(folder / f"animated.{suffix}", save_all=True, append_images=others)
    rgb.convert("RGBA").save(folder / "rgba.png")
    rgb.convert("P").save(folder / "palette.png")
    rgb.convert("CMYK").save(folder / "cmyk.jpg")
    rgb.convert("1").save(folder / "bits.png")
    gray.save(folder / "lzw.tiff", compression="tiff_lzw")
    Image.fromarray(RGB[0, ..., 0].astype(np.uint16) * 257).save(folder / "gray16.png")
    Image.fromarray(RGB[0, ..., 0].astype(np.float32) / 255).save(folder / "float.tiff")


def _read_picture(path: Path) -> None:
    ways: Sequence[Callable[[Path], object]] = (read_rgba, read_integers, read_floats, read_rgb)
    _any_of(lambda: _exhaust(iter(open_clip(path))), *(lambda way=way: way(path) for way in ways))  # type: ignore[misc]


def _make_masks(folder: Path) -> None:
    labels = MASKS.astype(np.uint8) * 2 + np.roll(MASKS, 12, axis=2)
    soft = np.clip(100 - ((_ROWS - 16) ** 2 + (_COLUMNS - 20) ** 2), 0, 255).astype(np.uint8)
    kinds: dict[str, Sequence[Image.Image]] = {
        "binary": [Image.fromarray(mask.astype(np.uint8) * 255) for mask in MASKS],
        "labels": [Image.fromarray(values) for values in labels],
        "soft": [Image.fromarray(soft)] * FRAMES,
        "palette": [Image.fromarray(values).convert("P") for values in labels],
        "alpha": [
            Image.fromarray(np.dstack([frame, mask * np.uint8(255)])) for frame, mask in zip(RGB, MASKS, strict=True)
        ],
    }
    for name, pictures in kinds.items():
        (folder / name).mkdir()
        for number, picture in enumerate(pictures):
            picture.save(folder / name / f"{number:05d}.png")
    shutil.copytree(folder / "binary", folder / "objects" / "cup")
    kinds["binary"][0].save(folder / "masks.gif", save_all=True, append_images=kinds["binary"][1:])
    np.save(folder / "masks.npy", MASKS)
    np.savez_compressed(folder / "masks.npz", cup=MASKS, dog=MASKS[:, None])
    write_video(folder / "ffv1.mkv", "ffv1", "bgr0", frames=np.repeat(labels[..., None] * np.uint8(60), 3, axis=-1))
    alpha = np.concatenate([RGB, MASKS[..., None].astype(np.uint8) * 255], axis=-1)
    write_video(folder / "alpha.mov", "png", "rgba", frames=alpha)


def _read_masks(path: Path) -> None:
    for track in read_masks(path).values():
        _exhaust(iter(track))


def _polygon(left: int) -> list[list[int]]:
    return [[left, 4, left + 12, 4, left + 12, 20, left, 20], [1, 1, 2, 2]]


def _images() -> list[dict[str, Any]]:
    return [{"id": n + 1, "file_name": f"v/{n:05d}.png", "height": HEIGHT, "width": WIDTH} for n in range(FRAMES)]


def _make_annotations(folder: Path) -> None:
    entries: list[dict[str, Any]] = [
        {"id": 2 * n + o, "image_id": n + 1, "category_id": 1, "attributes": {"track_id": o},
         "segmentation": _polygon(3 * n) if o else encode_rle(MASKS[n])}
        for n in range(FRAMES) for o in range(2)
    ]  # fmt: skip
    _write(folder / "coco.json", {"images": _images(), "annotations": entries})
    video = {"id": 1, "height": HEIGHT, "width": WIDTH, "length": FRAMES, "file_names": [f"{n}.png" for n in range(4)]}
    runs = {"size": [HEIGHT, WIDTH], "counts": [10, HEIGHT * WIDTH - 10]}
    tracks = [
        {"id": 1, "video_id": 1, "name": "cup", "track_id": 4, "segmentations": [encode_rle(mask) for mask in MASKS]},
        {"id": 2, "video_id": 1, "name": "dog", "track_id": 5, "segmentations": [None, runs, _polygon(2), []]},
    ]
    _write(folder / "youtube_vis.json", {"videos": [video], "annotations": tracks})
    sav = {"video_id": "sav_1", "video_frame_count": 16.0, "video_height": 32.0, "video_width": 48.0,
           "masklet": [[encode_rle(mask), encode_rle(~mask)] for mask in MASKS], "masklet_id": [0, 1]}  # fmt: skip
    _write(folder / "sav.json", sav)


def _write(path: Path, content: object) -> None:
    path.write_text(json.dumps(content), encoding="utf-8")


def _records() -> list[TrackRecord]:
    names = [f"v/{n:05d}.png" for n in range(FRAMES)]
    return [
        TrackRecord.from_masks(MASKS, MASKS, image_ids=range(1, 5), image_file_names=names, obj_id=o) for o in (1, 2)
    ]


def _make_datasets(folder: Path) -> None:
    rles = [encode_rle(mask) for mask in MASKS]
    write_records(folder / "tracks.json", _records())
    both = {"category_id": 1, "segmentation": rles[0], "visible_mask": _polygon(2)}
    entries = [{"id": n, "image_id": n + 1, "obj_id": 3, **both} for n in range(FRAMES)]
    _write(folder / "coco_tracks.json", {"images": _images(), "annotations": entries})
    video = {"id": 1, "height": HEIGHT, "width": WIDTH, "file_names": [f"v/{n}.png" for n in range(FRAMES)]}
    track = {"id": 1, "video_id": 1, "category_id": 1, "segmentations": rles, "visible_masks": [None, *rles[1:]]}
    _write(folder / "vis_tracks.json", {"videos": [video], "annotations": [track]})
    regions = [{"segmentation": [4, 2, 12, 2, 12, 8, 4, 8]}, {"segmentation": _polygon(3), "visible_mask": rles[1]}]
    images = [{"image_id": 1, "regions": regions}, {"image_id": 2, "a_segm": rles[0], "i_segm": rles[1]}]
    _write(folder / "amodal_images.json", {"images": _images(), "annotations": images})
    tao = TaoRecord(1, 1, 1, ("a.png", "b.png"), (rles[0]["counts"],) * 2, HEIGHT, WIDTH, ((0, 0, 9, 9),) * 2)
    _write(folder / "tao.json", [asdict(tao)])
    _write(folder / "first_tracks.json", {"1": 1, "2": 5})
    keyed = {f"({n}, {o})": {"diffvas_res_rle": rle} for n, rle in enumerate(rles, start=1) for o in (1, 2)}
    _write(folder / "predictions.json", keyed)
    results = [{"image_id": 1, "category_id": 1, "score": 0.5, "segmentation": mask} for mask in (rles[0], _polygon(5))]
    _write(folder / "results_coco.json", results)
    _write(folder / "results_vis.json", [{"video_id": 1, "category_id": 1, "score": 0.5, "segmentations": rles}])
    (folder / "fishbowl" / "v").mkdir(parents=True)
    (folder / "fishbowl" / "v_object1").mkdir()
    masks = [{"id": 1, "masks": rles}]
    _write(folder / "fishbowl" / "v" / "objects.json", masks)
    _write(folder / "fishbowl" / "v_object1" / "objects.json", masks)
    write_video(folder / "fishbowl" / "v" / "video.mp4", "libx264", "yuv420p")
    rows = [{"clip": "a.mp4", "masks": "m", "name": "one"}, {"clip": "b.mp4", "masks": "n", "name": "two"}]
    (folder / "clips.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with (folder / "clips.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    (folder / "clips.txt").write_text("a.mp4\tm\nb.mp4\tn\n")


def _read_predictions(path: Path) -> None:
    with PredictionFile(path) as file:
        for record in _records():
            file.masks(record)


def _read_results(path: Path) -> None:
    kind = kind_of_results(path)
    if kind is not None:
        size = (HEIGHT, WIDTH, 1 if kind == "coco" else FRAMES)
        read_instances(path, kind, TrueInstances(sizes={"coco": {"1": size}, "youtube-vis": {"1": size}}))


def _read_tracks(path: Path) -> None:
    for record in read_records(path):
        record.modal_masks()
    data = SailVosDataset(path, frames=FRAMES, with_rgb=False)
    _exhaust(data[index] for index in range(len(data)))


def _read_images(path: Path) -> None:
    index = AmodalImageIndex(path)
    _exhaust(index.object(number) for number in range(len(index)))


def _read_fishbowl(path: Path) -> None:
    benchmark = open_fishbowl(path)
    _exhaust(benchmark.track(index) for index in range(len(benchmark)))


_DATASETS: dict[str, Callable[[Path], object]] = {
    "tracks": _read_tracks,
    "coco_tracks": lambda path: _exhaust(json_objects(path, JsonKeys())),
    "vis_tracks": lambda path: _exhaust(json_objects(path, JsonKeys())),
    "amodal_images": _read_images,
    "tao": lambda path: _exhaust(record.modal_masks() for record in stream_tao_records(path)),
    "first_tracks": read_first_tracks,
    "predictions": _read_predictions,
    "results_coco": _read_results,
    "results_vis": _read_results,
    "fishbowl": _read_fishbowl,
    "clips": read_clip_list,
}


def _make_depth(folder: Path) -> None:
    (folder / "pictures").mkdir()
    depth = np.stack([_ROWS * 100 + _COLUMNS * 7 + 50 * n for n in range(FRAMES)])
    for number, values in enumerate(depth):
        Image.fromarray(values.astype(np.uint16)).save(folder / "pictures" / f"{number:05d}.png")
    np.save(folder / "float32.npy", depth.astype(np.float32))
    np.save(folder / "float16.npy", depth.astype(np.float16))
    np.save(folder / "int32.npy", depth.astype(np.int32))


def _read_depth(path: Path) -> None:
    for inverse in (False, True):
        _exhaust(iter(open_depth(path, inverse=inverse)))


def _make_checkpoints(folder: Path) -> None:
    source = bundled_models()["tiny"]
    target = folder / "tiny"
    for part in ("amodal_segmentation", "vae", "image_encoder", "scheduler"):  # no digests, which find all damage
        shutil.copytree(source / part, target / part, ignore=shutil.ignore_patterns("manifest.json"))


READERS: tuple[Reader, ...] = (
    Reader("video", _make_videos, _read_video),
    Reader("pictures", _make_pictures, _read_picture),
    Reader("masks", _make_masks, _read_masks),
    Reader("annotations", _make_annotations, _read_masks),
    Reader("datasets", _make_datasets, lambda path: _DATASETS[path.stem](path)),
    Reader("depth", _make_depth, _read_depth),
    Reader("checkpoints", _make_checkpoints, lambda path: load_stage(path, stage="amodal_segmentation")),
)
"""In the order of the table."""
