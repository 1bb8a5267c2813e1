"""Display of results on the page: images side by side with a common slider, and links to all result files."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from urllib.parse import quote

import numpy as np
from PIL import Image

from amodal_diffusion.frames.drawing import OverlayLayer, draw_overlay
from amodal_diffusion.io.images import list_pictures, natural_key, read_integers, read_rgba
from amodal_diffusion.io.video_reader import ClipReader, open_clip
from amodal_diffusion.types import BoolArray, UInt8Array

FILES = "gradio_api/file="  # relative, because a proxy may serve the page below a path
_WIDEST = 720  # longest side in pixels of a displayed image; downloads have full size
_SQUARE, _LIGHT, _DARK = 12, 236, 208  # checkerboard behind transparent pixels: side of a square in pixels, gray levels
ARCHIVE = "results.zip"


@dataclass(frozen=True)
class Pane:
    """A pane of the viewer, with one image per frame.

    Attributes:
        title: caption of the pane.
        note: meaning of the colors; may be empty.
        folder: folder of the images ``00000.jpg`` and so on.
    """

    title: str
    note: str
    folder: Path


def draw_pane(pane: Pane, pictures: Iterable[UInt8Array]) -> Pane:
    """Write the images of a pane as JPEG files of at most 720 pixels on each side.

    Args:
        pane: a pane whose folder does not exist yet.
        pictures: images, uint8 ``[H, W, 3]``, one per frame.

    Returns:
        the same pane.
    """
    pane.folder.mkdir(parents=True)
    for index, picture in enumerate(pictures):
        image = Image.fromarray(picture)
        image.thumbnail((_WIDEST, _WIDEST))
        image.save(pane.folder / f"{index:05d}.jpg", quality=90)
    return pane


def draw_visible(clip: ClipReader, masks: Sequence[Iterable[BoolArray]]) -> Iterator[UInt8Array]:
    """Draw an outline around the visible part of each object; yields uint8 ``[H, W, 3]`` per frame.

    Args:
        clip: the frames.
        masks: modal masks of each object, bool ``[H, W]`` per frame.
    """
    if not masks:
        yield from clip
        return
    for rgb, visible in zip(clip, zip(*masks, strict=True), strict=True):
        yield draw_overlay(rgb, [OverlayLayer(mask, mask) for mask in visible])


def draw_amodal(clip: ClipReader, masks: Mapping[str, Iterable[BoolArray]], results: Path) -> Iterator[UInt8Array]:
    """Draw the amodal masks with their hidden part striped; yields uint8 ``[H, W, 3]`` per frame.

    Args:
        clip: the frames.
        masks: maps the name of each object to its modal masks, bool ``[H, W]`` per frame.
        results: result folder of `complete`.
    """
    amodal = [_pictures(results, name, "amodal_masks") for name in masks]
    for rgb, visible, files in zip(clip, zip(*masks.values(), strict=True), zip(*amodal, strict=True), strict=True):
        layers = [OverlayLayer(mask, read_integers(file).values > 0) for mask, file in zip(visible, files, strict=True)]
        yield draw_overlay(rgb, layers)


def draw_completed(results: Path, name: str) -> Iterator[UInt8Array]:
    """Draw the RGBA layers of an object over a checkerboard; yields uint8 ``[H, W, 3]`` per frame.

    Args:
        results: result folder of `complete`.
        name: name of the object.
    """
    for file in _pictures(results, name, "completed"):
        rgba = read_rgba(file)
        rows, columns = np.indices(rgba.shape[:2]) // _SQUARE
        board = np.where((rows + columns) % 2 == 0, _LIGHT, _DARK).astype(np.uint8)
        yield np.where(rgba[..., 3:] > 0, rgba[..., :3], board[..., None])


def uncertainty(results: Path, name: str) -> ClipReader | None:
    """Video that is bright where the samples of an object differ; None if there is only one sample.

    Args:
        results: result folder of `complete`.
        name: name of the object.
    """
    video = results / "objects" / name / "uncertainty.mp4"
    return open_clip(video) if video.is_file() else None


def viewer(panes: Sequence[Pane], *, num_frames: int, fps: float) -> str:
    """HTML of panes side by side with a common slider.

    Args:
        panes: panes whose images are written, see :func:`draw_pane`.
        num_frames: number of frames of the clip.
        fps: playback rate in frames per second.

    Returns:
        HTML; `assets/viewer.js` implements the slider and playback.
    """
    start = num_frames // 2
    figures = "".join(
        f"<figure><figcaption>{escape(pane.title)} <small>{escape(pane.note)}</small></figcaption>"
        f'<img alt="{escape(pane.title)}" data-folder="{_link(pane.folder)}/" '
        f'src="{_link(pane.folder)}/{start:05d}.jpg"></figure>'
        for pane in panes
    )
    scrub = (
        '<div class="amodal-scrub"><button type="button" onclick="amodalPlay(this)">Play</button>'
        f'<input type="range" aria-label="frame" min="0" max="{num_frames - 1}" value="{start}" '
        f'oninput="amodalFrame(this)"><output>frame {start} of {num_frames - 1}</output></div>'
    )
    return (
        f'<div class="amodal-viewer" data-fps="{fps:g}"><div class="amodal-panes">{figures}</div>'
        f"{scrub if num_frames > 1 else ''}</div>"
    )


def pack(results: Path) -> Path:
    """Pack all result files into a zip next to their folder.

    Args:
        results: result folder of `complete`.

    Returns:
        path of the zip.
    """
    target = results.with_name(f"{results.name}.zip")
    with zipfile.ZipFile(target, "w") as archive:  # PNG and MP4 are already compressed
        for file in _files(results):
            archive.write(file, Path("results", file.relative_to(results)))
    return target


def links(results: Path, archive: Path) -> str:
    """Links to all result files; those in subfolders are collapsed.

    Args:
        results: result folder of `complete`.
        archive: zip file from :func:`pack`.

    Returns:
        HTML.
    """
    folders: dict[str, list[Path]] = {}
    for file in _files(results):
        folders.setdefault(file.relative_to(results).parent.as_posix(), []).append(file)
    single = "".join(_anchor(file, file.name) for file in folders.pop(".", []))
    folded = "".join(
        f"<details><summary>{escape(folder)} ({len(files)} {'file' if len(files) == 1 else 'files'})</summary>"
        f"{''.join(_anchor(file, file.name) for file in files)}</details>"
        for folder, files in folders.items()
    )
    everything = (
        f'<a class="amodal-all" href="{_link(archive)}" download="{ARCHIVE}">Download everything (zip, '
        f"{archive.stat().st_size / 2**20:.1f} MiB)</a>"
    )
    return f'<div class="amodal-files">{everything}{single}{folded}</div>'


def _files(results: Path) -> list[Path]:
    found = [path for path in results.rglob("*") if path.is_file()]
    return sorted(found, key=lambda path: natural_key(path.relative_to(results).as_posix()))


def _pictures(results: Path, name: str, kind: str) -> list[Path]:
    return list_pictures(results / "objects" / name / kind)


def _anchor(file: Path, text: str) -> str:
    return f'<a href="{_link(file)}" download="{escape(file.name)}">{escape(text)}</a>'


def _link(path: Path) -> str:
    return FILES + quote(str(path))
