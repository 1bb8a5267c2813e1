"""All benchmarks by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

from amodal_diffusion.basics import InputError
from amodal_diffusion.data.composites import COMPOSITE_NAMES
from amodal_diffusion.data.published import remedy
from amodal_diffusion.evaluation.benchmarks.base import Benchmark, ReferenceProtocol
from amodal_diffusion.evaluation.benchmarks.coco_amodal import open_coco_amodal
from amodal_diffusion.evaluation.benchmarks.fishbowl import open_fishbowl
from amodal_diffusion.evaluation.benchmarks.folder import open_folder
from amodal_diffusion.evaluation.benchmarks.movi import open_movi
from amodal_diffusion.evaluation.benchmarks.sailvos import PROTOCOL as SAILVOS_PROTOCOL
from amodal_diffusion.evaluation.benchmarks.sailvos import open_sailvos
from amodal_diffusion.evaluation.benchmarks.scenes import CLIPS, CompositesBenchmark, ScenesBenchmark
from amodal_diffusion.evaluation.benchmarks.tao_amodal import PROTOCOL as TAO_AMODAL_PROTOCOL
from amodal_diffusion.evaluation.benchmarks.tao_amodal import open_tao_amodal
from amodal_diffusion.synthetic import Split

SCENES = "scenes"
_ANNOTATION_OPTIONS = ("images", "depth", "index_folder")
FILE_BENCHMARKS: dict[str, tuple[Callable[..., Benchmark], tuple[str, ...]]] = {
    "sailvos": (open_sailvos, _ANNOTATION_OPTIONS),
    "tao-amodal": (open_tao_amodal, (*_ANNOTATION_OPTIONS, "track_ids")),
    "movi": (open_movi, ()),
    "fishbowl": (open_fishbowl, ("depth",)),
    "coco-amodal": (open_coco_amodal, _ANNOTATION_OPTIONS),
    "folder": (open_folder, ()),
}
"""Function that opens each benchmark of files, and the options beside ``--data`` that it takes."""
PROTOCOLS: dict[str, ReferenceProtocol] = {"sailvos": SAILVOS_PROTOCOL, "tao-amodal": TAO_AMODAL_PROTOCOL}
"""How the published evaluation of a benchmark differs from the paper's inference."""
BENCHMARKS: tuple[str, ...] = (SCENES, *FILE_BENCHMARKS)


def open_benchmark(
    name: str,
    *,
    data: Path | None = None,
    images: Path | None = None,
    depth: Path | None = None,
    index_folder: Path | None = None,
    track_ids: Path | None = None,
    split: str | None = None,
    limit: int | None = None,
) -> Benchmark:
    """Open a benchmark: list its tracks, each of which is read when it is asked for.

    docs/data.md has the layout of each one's files.

    Args:
        name: one of `BENCHMARKS`.
        data: file or folder of the benchmark; of ``scenes``, the folder of cut-outs for the splits of composites.
        images: root of the frames that an annotation file names; its own folder by default.
        depth: root of depth, nearer is larger, for benchmarks that have none of their own: for those of annotation
            files a picture under the path of each frame, for ``fishbowl`` a folder of them or an array a video.
        index_folder: where the index of an annotation file is kept; its own folder by default.
        track_ids: of ``tao-amodal``: JSON of the first track of each video, for the keys of the prediction file.
        split: split of ``scenes``: test-v1 (by default), validation or train, or one of `COMPOSITE_NAMES`.
        limit: number of tracks, from the first; None for all.

    Raises:
        InputError: if the name is unknown, an argument is missing or is not for this benchmark, or nothing is there.
    """
    if name not in BENCHMARKS:
        raise InputError(f"benchmark: expected one of {', '.join(BENCHMARKS)}, got {name}")
    folders = {"images": images, "depth": depth, "index_folder": index_folder, "track_ids": track_ids}
    if name == SCENES:
        clips = CLIPS if limit is None else limit
        if split in COMPOSITE_NAMES:
            _refuse(name, **folders)
            return CompositesBenchmark(str(split), data, clips)
        _refuse(name, data=data, **folders)
        return ScenesBenchmark(_split(split), clips)
    opener, accepted = FILE_BENCHMARKS[name]
    _refuse(name, split=split, **{key: value for key, value in folders.items() if key not in accepted})
    if data is None:
        raise InputError(f"data: expected the file or folder of the benchmark {name}, got none")
    if limit is not None and limit < 1:
        raise InputError(f"limit: expected at least 1 track, got {limit}")
    for key, path in {"data": data, "images": images, "depth": depth, "track_ids": track_ids}.items():
        if path is not None and not path.exists():
            raise InputError(f"{key}: {path}: no such file or folder; {remedy(path)}")
    chosen: dict[str, Any] = {key: folders[key] for key in accepted}
    return opener(data, limit=limit, **chosen)


def _refuse(benchmark: str, **arguments: Path | str | None) -> None:
    """Refuse arguments that a benchmark does not take."""
    for name, value in arguments.items():
        if value is not None:
            raise InputError(f"{name}: expected none for the benchmark {benchmark}, got {value}; leave it out")


def _split(name: str | None) -> Split:
    for split in get_args(Split):
        if name in (split, None):
            found: Split = "test-v1" if name is None else split
            return found
    raise InputError(f"split: expected one of {', '.join((*get_args(Split), *COMPOSITE_NAMES))}, got {name}")
