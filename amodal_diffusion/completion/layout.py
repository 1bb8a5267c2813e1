"""Paths of the files of a result, and the formats in which they are written."""

from __future__ import annotations

from collections.abc import Sequence

from amodal_diffusion.basics import InputError
from amodal_diffusion.completion.option_values import Format
from amodal_diffusion.io.mask_files import MaskTrack
from amodal_diffusion.io.video_writer import Kind, missing_encoders


def step_of(track: MaskTrack) -> str:
    """Name of the step that writes an object's files."""
    return f"object {track.name}"


def record_path(track: MaskTrack) -> str:
    """Record of an object: its areas, statistics and times."""
    return f"objects/{track.name}/object.json"


def mask_path(track: MaskTrack, index: int) -> str:
    """Amodal mask of an object in a frame, counted from 0."""
    return f"objects/{track.name}/amodal_masks/{index:05d}.png"


def layer_path(track: MaskTrack, index: int) -> str:
    """Layer of an object in a frame, counted from 0."""
    return f"objects/{track.name}/completed/{index:05d}.png"


def sample_path(track: MaskTrack, sample: int, index: int) -> str:
    """Amodal mask of one sample in a frame, both counted from 0; the folders are numbered from 1."""
    return f"objects/{track.name}/answers/{sample + 1}/{index:05d}.png"


def score_path(track: MaskTrack, index: int) -> str:
    """Score of stage 1 for an object in a frame, counted from 0."""
    return f"objects/{track.name}/{SCORES}/{index:05d}.png"


def uncertainty_path(track: MaskTrack) -> str:
    """Video that shows where the samples differ."""
    return f"objects/{track.name}/uncertainty.mp4"


def layered_path(name: Format, index: int) -> str:
    """Layered picture of a frame, counted from 0, in PSD or OpenRaster."""
    return f"layered/{index:05d}.{name}"


SUMMARY, SCORES = "summary.json", "scores"
OVERLAY, SHEET = "overlay.mp4", "contact_sheet.png"
VIDEOS: dict[Format, tuple[Kind, str]] = {
    "prores": ("prores", "completed.mov"),
    "webm": ("webm", "completed.webm"),
    "mp4": ("mp4", "completed.mp4"),
    "masks-mp4": ("mp4", "amodal_masks.mp4"),
}
"""Formats of one video per object: the kind of video, and the file's name in the object's folder."""
ANNOTATIONS: dict[Format, str] = {"coco": "coco.json", "youtube-vis": "youtube_vis.json"}
"""Formats of one file for all objects: the file's name."""
GIF = "completed.gif"
LAYERED: tuple[Format, ...] = ("psd", "ora")
"""Formats of one file for a frame, with all objects."""
_PAINTED: tuple[Format, ...] = ("prores", "webm", "mp4", "gif", *LAYERED)  # formats of layers, which need stage 2


def check_formats(formats: Sequence[Format], *, painted: bool, sound: bool) -> None:
    """Refuse formats that cannot be written, before the work begins.

    Args:
        formats: formats that are asked for.
        painted: whether stage 2 runs, so that there are RGBA layers.
        sound: whether videos carry the clip's sound.

    Raises:
        InputError: if FFmpeg lacks an encoder, or a format needs RGBA layers and there are none.
    """
    for name in formats:
        if name in _PAINTED and not painted:
            raise InputError(f"--formats: {name} holds layers, which --stages masks leaves out; leave one of them out")
    wanted: dict[str, Kind] = {OVERLAY: "mp4", **{name: VIDEOS[name][0] for name in formats if name in VIDEOS}}
    for file, kind in wanted.items():
        if missing := missing_encoders(kind, sound=sound):
            raise InputError(
                f"--formats: {file} needs FFmpeg's {' and '.join(missing)}, which this build of PyAV lacks; leave it "
                "out, or install PyAV's own wheel (pip install --force-reinstall av)"
            )
