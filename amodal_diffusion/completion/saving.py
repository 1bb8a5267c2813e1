"""A result in memory, written to a folder: what `AmodalResult.save` does."""

from __future__ import annotations

import logging
import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from uuid import uuid4

import numpy as np
from PIL import Image, ImageColor

from amodal_diffusion.basics import InputError, one_line
from amodal_diffusion.completion.layout import GIF, SCORES, VIDEOS
from amodal_diffusion.completion.option_values import Format, meant_format, read_color
from amodal_diffusion.frames.layers import carry_color, over_color
from amodal_diffusion.io.atomic import PARTIAL, REPLACED, make_folder, put_in_place, sync_tree
from amodal_diffusion.io.gif_writer import fitted_size, kept_frames, write_gif
from amodal_diffusion.io.images import write_levels_png, write_mask_png, write_rgba_png
from amodal_diffusion.io.timing import Timing
from amodal_diffusion.io.video_writer import COLOR_REACH, VideoLayout, VideoWriter
from amodal_diffusion.pipelines.postprocessing import score_levels
from amodal_diffusion.types import FASTEST, AmodalResult, UInt8Array, check_rate

logger = logging.getLogger(__name__)

SAVED: tuple[Format, ...] = ("png", "prores", "webm", "mp4", "gif", "masks-mp4", "scores")
"""Formats of one object alone. The others hold the frames, or all objects of a clip."""
_OWN_FILES = re.compile(
    "|".join([rf"(amodal_masks|completed|{SCORES})/\d+\.png", *(re.escape(file) for _, file in VIDEOS.values()), GIF])
)
_LEFT_BY_SYSTEMS = re.compile(r"\.DS_Store|\._.*|Thumbs\.db|desktop\.ini")
_PAINTED = ("png", "prores", "webm", "mp4", "gif")


def save_result(
    result: AmodalResult,
    path: str | Path,
    formats: str | Sequence[str] = ("png",),
    *,
    fps: float = 8.0,
    color: str = "white",
    overwrite: bool = False,
) -> Path:
    """Write the masks of a result and its layers, in the layout of an object of a result folder (docs/outputs.md).

    Args:
        result: of one object.
        path: folder; must not exist, unless ``overwrite`` is set.
        formats: of `SAVED`, as a sequence or one text with commas; masks are written as PNG whatever they are.
            Without layers, ``png`` means the masks.
        fps: frames a second of videos.
        color: behind the object in ``mp4`` and ``gif``: a CSS color name or ``#rrggbb``.
        overwrite: replace the folder if it holds nothing but files of an earlier result.

    Returns:
        the folder.

    Raises:
        InputError: if the folder exists, or with ``overwrite`` holds a file that no result has; if a format or
            color is unknown, the frame rate is out of range, or the result lacks what a format holds.
        OSError: if a file cannot be written, or a folder of this name came up meanwhile; nothing is left then.
    """
    chosen = _chosen(formats)
    _check(result, chosen)
    check_rate(fps, at_most=FASTEST)
    background = ImageColor.getrgb(read_color(color, argument="color"))[:3]
    destination = _destination(Path(path), overwrite=overwrite)
    unique = f"{destination.name}.{uuid4().hex[:8]}"  # nothing that is there has this name
    folder, aside = destination.with_name(unique + PARTIAL), destination.with_name(unique + REPLACED)
    make_folder(folder)
    try:
        _write_pictures(result, folder, chosen)
        for name in chosen:
            if name in VIDEOS:
                _write_video(result, folder, name, fps, background)
            elif name == "gif":
                _write_gif(result, folder, fps, background)
        sync_tree(folder)
        if overwrite:
            put_in_place(folder, destination, aside=aside)
        else:
            folder.rename(destination)  # fails if there are files by now
    except BaseException:
        if aside.exists() and not destination.exists():
            aside.rename(destination)
        raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if aside.exists() and _foreign(aside) is None:
        shutil.rmtree(aside, ignore_errors=True)
    elif aside.exists():
        logger.warning("%s: files came into it while it was replaced; they are in %s", path, aside)
    return Path(path)


def _destination(path: Path, *, overwrite: bool) -> Path:
    """The folder to write, without links; it is new, or holds nothing but files of earlier results."""
    try:
        destination = path.resolve()
    except (OSError, RuntimeError) as error:  # links that lead to each other
        raise InputError(f"path: {path}: cannot be found ({one_line(OSError(str(error)))})") from error
    if destination in (Path.cwd(), *Path.cwd().parents):
        raise InputError(f"path: expected a folder of its own, got {path}; give a new one in it")
    if destination.exists() and not destination.is_dir():
        raise InputError(f"path: {path}: a file is in the way; give another folder")
    if not destination.exists():
        return destination
    if not overwrite:
        raise InputError(f"path: {path} exists; give another folder, or overwrite=True")
    foreign = _foreign(destination)
    if foreign is not None:
        raise InputError(f"path: {path}: holds {foreign}, which is no file of a result; give another folder")
    return destination


def _foreign(folder: Path) -> str | None:
    """A file of a folder that no result has, and no file manager leaves; None if there is none."""
    files = (file for file in folder.rglob("*") if not file.is_dir() and not _LEFT_BY_SYSTEMS.fullmatch(file.name))
    names = (file.relative_to(folder).as_posix() for file in files)
    return next((name for name in names if not _OWN_FILES.fullmatch(name)), None)


def _chosen(formats: str | Sequence[str]) -> list[Format]:
    """Formats by name, in the order of `SAVED`."""
    if not isinstance(formats, Sequence) or not all(isinstance(name, str) for name in formats):
        raise InputError(f"formats: expected some of {','.join(SAVED)}, got {formats!r}")
    names = [name.strip().lower() for name in (formats.split(",") if isinstance(formats, str) else formats)]
    other = next((name for name in names if name not in SAVED), None)
    if other is not None:
        meant = meant_format(other)
        of_clip = f"{meant} holds frames or all objects of a clip, and the command `complete` writes it"
        remedy = f"did you mean {meant}?" if meant in SAVED else of_clip
        raise InputError(f"formats: expected some of {','.join(SAVED)}, got {other}; {remedy}")
    return [name for name in SAVED if name in names]


def _check(result: AmodalResult, formats: Sequence[Format]) -> None:
    painted = [name for name in formats if name in _PAINTED and name != "png"]
    if painted and result.rgba is None:
        raise InputError(f"formats: {painted[0]} holds layers, and this result has masks alone; load stage 2 too")
    if "scores" in formats and result.score is None:
        raise InputError("formats: this result has no scores, as stage 1 did not run; leave scores out")


def _write_pictures(result: AmodalResult, folder: Path, formats: Sequence[Format]) -> None:
    """Masks, and layers and scores if they are asked for."""
    layers = result.rgba if "png" in formats else None
    scores = result.score if "scores" in formats else None
    for name, wanted in (("amodal_masks", True), ("completed", layers is not None), (SCORES, scores is not None)):
        if wanted:
            (folder / name).mkdir()
    for index, mask in enumerate(result.amodal_mask):
        file = f"{index:05d}.png"
        write_mask_png(folder / "amodal_masks" / file, mask)
        if layers is not None:
            write_rgba_png(folder / "completed" / file, layers[index])
        if scores is not None:
            write_levels_png(folder / SCORES / file, score_levels(scores[index]))


def _write_video(result: AmodalResult, folder: Path, name: Format, fps: float, color: Sequence[int]) -> None:
    kind, file = VIDEOS[name]
    count, height, width = result.amodal_mask.shape
    layout = VideoLayout(height, width, Timing.steady(count, fps))
    with VideoWriter(folder / file, kind, layout) as video:
        for index, mask in enumerate(result.amodal_mask):
            if name == "masks-mp4":
                video.write(np.repeat(mask[..., None] * np.uint8(255), 3, axis=-1))
            elif name == "mp4":
                video.write(over_color(_layers(result)[index], color))
            else:
                video.write(carry_color(_layers(result)[index], COLOR_REACH))


def _write_gif(result: AmodalResult, folder: Path, fps: float, color: Sequence[int]) -> None:
    count, height, width = result.amodal_mask.shape
    timing = Timing.steady(count, fps)
    seconds = [timing.seconds(index) for index in range(count)]
    kept, (rows, columns) = kept_frames(seconds), fitted_size(height, width)

    def pictures() -> Iterator[UInt8Array]:
        for index in kept:
            picture = Image.fromarray(over_color(_layers(result)[index], color))
            yield np.asarray(picture.resize((columns, rows), Image.Resampling.LANCZOS))

    write_gif(folder / GIF, pictures(), [*(seconds[index] for index in kept), seconds[-1] + 1 / timing.rate])


def _layers(result: AmodalResult) -> UInt8Array:
    assert result.rgba is not None  # checked above
    return result.rgba
