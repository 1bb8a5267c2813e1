"""HTML of the page: the message line, the drawing board, and the viewer of a clip and its results."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from html import escape
from pathlib import Path
from typing import Literal
from urllib.parse import quote

import numpy as np
from PIL import Image

from amodal_diffusion.app.drawing import OBJECTS
from amodal_diffusion.frames.drawing import COLORS
from amodal_diffusion.io.video_reader import ClipReader, open_clip
from amodal_diffusion.types import BoolArray, UInt8Array

FILES = "gradio_api/file="  # relative, because a proxy may serve the page below a path
_WIDEST = 1280  # longest side in pixels of a displayed frame; downloads have full size
_MINUTE, _HOUR = 60, 3600

Kind = Literal["info", "work", "done", "error"]
"""Kinds of messages, each with a look of its own."""


def status(
    text: str,
    kind: Kind = "info",
    *,
    share: float | None = None,
    seconds_left: float | None = None,
    has_result: bool = False,
) -> str:
    """HTML of the message line; while the page works, with the progress bar.

    Args:
        text: the message.
        kind: its look; ``work`` shows the bar.
        share: done of the work, 0 to 1; None where it is not known.
        seconds_left: time left; None where it is not known.
        has_result: whether a link leads to the viewer, which on a narrow screen is far below.
    """
    bar = ' <a href="#viewer">Show the result</a>' if has_result else ""
    if kind == "work":
        value = "" if share is None else f' value="{share:.3f}"'
        left = "" if seconds_left is None else f"<span>{duration(seconds_left)} left</span>"
        bar = f'<div class="bar"><progress max="1"{value}></progress>{left}</div>'
    role = "alert" if kind == "error" else "status"
    return f'<div class="amodal-status" data-kind="{kind}"><span role="{role}">{escape(text)}</span>{bar}</div>'


def duration(seconds: float) -> str:
    """Words for a duration, as exact as an estimate is: ``about 20 s``, ``about 3 min``.

    Args:
        seconds: the duration.
    """
    if seconds < _MINUTE:
        step = 1 if seconds < 10 else 5
        return f"about {max(1, step * round(seconds / step))} s"
    if seconds < 1.5 * _HOUR:
        return f"about {round(seconds / _MINUTE)} min"
    return f"about {seconds / _HOUR:.1f} h"


@dataclass(frozen=True)
class SceneObject:
    """Links to the pictures of one object; each is a folder of ``00000`` and so on, or None.

    Attributes:
        name: name of the object.
        color: RGB of its mask.
        visible: modal masks, PNG with 0 and 255.
        amodal: amodal masks, PNG with 0 and 255.
        completed: RGBA layers, PNG.
        uncertain: where the samples differ, JPEG.
    """

    name: str
    color: tuple[int, int, int]
    visible: str
    amodal: str | None = None
    completed: str | None = None
    uncertain: str | None = None


@dataclass(frozen=True)
class Scene:
    """What the viewer shows; `assets/viewer.js` reads it as JSON.

    Attributes:
        frames: number of frames.
        fps: playback rate in frames per second.
        width: width in pixels of the masks and layers, with margins.
        height: their height.
        left: column of the frame's top left pixel in them.
        top: its row.
        frame_width: width of the frame in pixels.
        frame_height: height of the frame.
        pictures: link to the folder of the frames, JPEG.
        masks: names the modal masks, others after each change; empty before there are any.
        objects: the objects; none before there are masks.
    """

    frames: int
    fps: float
    width: int
    height: int
    left: int
    top: int
    frame_width: int
    frame_height: int
    pictures: str
    masks: str = ""
    objects: tuple[SceneObject, ...] = ()

    @classmethod
    def of(cls, clip: ClipReader, pictures: Path, canvas: Mapping[str, int] | None = None) -> Scene:
        """A clip without objects.

        Args:
            clip: the clip.
            pictures: folder of the frames, see :func:`write_pictures`.
            canvas: of ``summary.json``: size of the results and position of the frame in them; None for the frame's.
        """
        found = canvas or {"width": clip.width, "height": clip.height, "offset_x": 0, "offset_y": 0}
        return cls(
            frames=clip.num_frames,
            fps=clip.fps,
            width=found["width"],
            height=found["height"],
            left=found["offset_x"],
            top=found["offset_y"],
            frame_width=clip.width,
            frame_height=clip.height,
            pictures=folder_link(pictures),
        )


def viewer(scene: Scene) -> str:
    """HTML of the viewer.

    Args:
        scene: what it shows.
    """
    return f'<div class="amodal-viewer" data-scene="{escape(json.dumps(asdict(scene)))}"></div>'


def easel(pictures: Path, *, frames: int, height: int, width: int) -> str:
    """HTML of the drawing board, without paint.

    Args:
        pictures: folder of the frames, see :func:`write_pictures`.
        frames: number of frames.
        height: height of a frame in pixels.
        width: width of a frame in pixels.
    """
    clip = {
        "pictures": folder_link(pictures),
        "frames": frames,
        "height": height,
        "width": width,
        "colors": COLORS[:OBJECTS],
    }
    return f'<div class="amodal-easel" data-clip="{escape(json.dumps(clip))}"></div>'


def write_pictures(pictures: Iterable[UInt8Array], folder: Path) -> Path:
    """Write frames as JPEG files of at most 1280 pixels on each side.

    Args:
        pictures: images, uint8 ``[H, W, 3]``, one per frame.
        folder: existing folder.

    Returns:
        the folder.
    """
    for index, picture in enumerate(pictures):
        image = Image.fromarray(picture)
        image.thumbnail((_WIDEST, _WIDEST))
        image.save(folder / f"{index:05d}.jpg", quality=88)
    return folder


def write_visible(masks: Mapping[str, Iterable[BoolArray]], folder: Path, *, scene: Scene) -> dict[str, Path]:
    """Write modal masks as PNG files with the margins of the results, of at most 1280 pixels on each side.

    Args:
        masks: maps the name of each object to its modal masks, bool ``[H, W]`` per frame.
        folder: existing folder.
        scene: gives the size of the frame and of the results.

    Returns:
        maps the name of each object to its folder.
    """
    folders = {}
    for number, (name, track) in enumerate(masks.items()):
        folders[name] = folder / str(number)
        folders[name].mkdir()
        for index, mask in enumerate(track):
            wide = np.zeros((scene.height, scene.width), np.uint8)
            wide[scene.top : scene.top + scene.frame_height, scene.left : scene.left + scene.frame_width] = mask * 255
            image = Image.fromarray(wide)
            image.thumbnail((_WIDEST, _WIDEST), Image.Resampling.NEAREST)
            image.save(folders[name] / f"{index:05d}.png")
    return folders


def uncertainty(results: Path, name: str) -> ClipReader | None:
    """Video that is bright where the samples of an object differ; None if there is only one sample.

    Args:
        results: result folder of `complete`.
        name: name of the object.
    """
    video = results / "objects" / name / "uncertainty.mp4"
    return open_clip(video) if video.is_file() else None


def color_of(number: int) -> tuple[int, int, int]:
    """RGB of the mask of an object, counted from 0."""
    red, green, blue = COLORS[number % len(COLORS)]
    return red, green, blue


def link(path: Path) -> str:
    """Link to a file that this visitor may read."""
    return FILES + quote(str(path))


def folder_link(folder: Path) -> str:
    """Link to which the name of a file in a folder is added."""
    return f"{link(folder)}/"
