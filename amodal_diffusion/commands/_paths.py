"""Where the files of an object lie in a folder of results."""

from __future__ import annotations

from amodal_diffusion.video.mask_files import MaskTrack


def step_of(track: MaskTrack) -> str:
    """Name of the step that makes an object's files."""
    return f"object {track.name}"


def record_path(track: MaskTrack) -> str:
    """Areas and seconds of an object, for the summary."""
    return f"objects/{track.name}/object.json"


def mask_path(track: MaskTrack, index: int) -> str:
    """Whole mask of an object in a frame, counted from 0."""
    return f"objects/{track.name}/amodal_masks/{index:05d}.png"


def layer_path(track: MaskTrack, index: int) -> str:
    """Layer of an object in a frame, counted from 0."""
    return f"objects/{track.name}/completed/{index:05d}.png"


def answer_path(track: MaskTrack, answer: int, index: int) -> str:
    """Whole mask of an object in a frame by one of several answers, both counted from 0; folders count from 1."""
    return f"objects/{track.name}/answers/{answer + 1}/{index:05d}.png"


def uncertainty_path(track: MaskTrack) -> str:
    """Video of where the answers differ."""
    return f"objects/{track.name}/uncertainty.mp4"
