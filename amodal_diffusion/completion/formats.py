"""Export of the results of `complete` to the requested formats; layered pictures are in `layered_export`."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image, ImageColor
from tqdm import tqdm

from amodal_diffusion.completion.inputs import CompletionInputs
from amodal_diffusion.completion.layered_export import write_layered
from amodal_diffusion.completion.layout import ANNOTATIONS, GIF, LAYERED, VIDEOS, layer_path, mask_path, step_of
from amodal_diffusion.completion.option_values import Format
from amodal_diffusion.completion.request import CompletionRequest
from amodal_diffusion.frames.layers import carry_color, over_color, style_layer
from amodal_diffusion.io.background import read_ahead
from amodal_diffusion.io.coco import AnnotatedTrack, CocoFile, YoutubeVisFile
from amodal_diffusion.io.gif_writer import fitted_size, kept_frames, write_gif
from amodal_diffusion.io.images import (
    list_pictures,
    read_integers,
    read_rgba,
    write_label_png,
    write_rgba_png,
)
from amodal_diffusion.io.mask_files import MaskTrack
from amodal_diffusion.io.result_folder import OutputFolder
from amodal_diffusion.io.sound import has_sound
from amodal_diffusion.io.video_reader import ClipReader
from amodal_diffusion.io.video_writer import COLOR_REACH, CarriedSound, Kind, VideoLayout, VideoWriter, check_sound
from amodal_diffusion.types import BoolArray, UInt8Array

_LABELS = 255  # labels of a palette image, without the background

logger = logging.getLogger(__name__)


def sound_of(request: CompletionRequest, clip: ClipReader) -> CarriedSound | None:
    """Audio for the videos; None, with a warning, if audio is requested and the clip has none.

    Args:
        request: the options of `complete`.
        clip: its clip.
    """
    if not request.output.audio:
        return None
    if has_sound(request.source.clip):
        kinds: list[Kind] = ["mp4", *(VIDEOS[name][0] for name in request.output.formats if name in VIDEOS)]
        return check_sound(request.source.clip, [*dict.fromkeys(kinds)], clip.timing)
    logger.warning("--audio: %s has no sound; the videos have none", request.source.clip)
    return None


def write_formats(
    inputs: CompletionInputs, request: CompletionRequest, out: OutputFolder, *, sound: CarriedSound | None
) -> None:
    """Write all formats that are not finished; most formats have one step per object.

    Args:
        inputs: the clip and its objects, whose masks and layers are finished.
        request: gives the formats, and the edge and alpha of the layers.
        out: opened result folder.
        sound: audio of the videos, from :func:`sound_of`.
    """
    for name in request.output.formats:
        if name in LAYERED:
            write_layered(name, inputs, request, out)
        elif name in ANNOTATIONS:
            _write_annotations(name, inputs, out, quiet=request.output.quiet)
        else:
            for track in inputs.tracks:
                _write_object(name, track, inputs, request, out, sound=sound)


def _write_object(
    name: Format,
    track: MaskTrack,
    inputs: CompletionInputs,
    request: CompletionRequest,
    out: OutputFolder,
    *,
    sound: CarriedSound | None,
) -> None:
    """Write an object in a format of one file or folder per object."""
    if name in VIDEOS:
        _write_video(name, track, inputs.clip, request, out, sound=sound)
    elif name == "gif":
        _write_gif(track, inputs.clip, request, out)
    elif name == "davis":
        _write_labels(track, _numbers(inputs)[track.name], out, quiet=request.output.quiet)
    elif name == "png" and _is_styled(request) and request.painted:
        _write_styled(track, request, out)


def drop_layers(inputs: CompletionInputs, request: CompletionRequest, out: OutputFolder) -> None:
    """Remove the intermediate PNG layers if PNG is not requested, or is written separately with another edge or alpha.

    Args:
        inputs: the objects.
        request: gives the formats, and the edge and alpha of the layers.
        out: opened result folder in which all formats are finished.
    """
    if request.painted and ("png" not in request.output.formats or _is_styled(request)):
        for track in inputs.tracks:
            out.drop(step_of(track), [layer_path(track, index) for index in range(track.num_frames)])


def _is_styled(request: CompletionRequest) -> bool:
    return bool(request.output.soft_edge) or request.output.alpha != "straight"


def _write_video(
    name: Format,
    track: MaskTrack,
    clip: ClipReader,
    request: CompletionRequest,
    out: OutputFolder,
    *,
    sound: CarriedSound | None,
) -> None:
    kind, file = VIDEOS[name]
    step, path = f"{name} {track.name}", f"objects/{track.name}/{file}"
    if out.is_finished(step):
        return
    with (
        out.step(step, [path]) as work,
        VideoWriter(work / path, kind, VideoLayout.of(clip), sound_of=sound) as video,
    ):
        for index in _frames(step, track, quiet=request.output.quiet):
            if name == "masks-mp4":
                video.write(np.repeat(_mask(work, track, index)[..., None] * np.uint8(255), 3, axis=-1))
            elif name == "mp4":
                video.write(_over_color(work, track, index, request))
            else:
                layer = _layer(work, track, index, request)
                video.write(carry_color(layer, COLOR_REACH) if request.output.alpha == "straight" else layer)


def _write_gif(track: MaskTrack, clip: ClipReader, request: CompletionRequest, out: OutputFolder) -> None:
    """Write a small animation: the frame, and the whole object over the color."""
    step, path = f"gif {track.name}", f"objects/{track.name}/{GIF}"
    if out.is_finished(step):
        return
    timing = clip.timing
    seconds = [timing.seconds(index) for index in range(track.num_frames)]
    kept = kept_frames(seconds)
    with out.step(step, [path]) as work, closing(read_ahead(clip)) as frames:
        bar = tqdm(kept, desc=step, unit="frame", disable=request.output.quiet)

        def pictures() -> Iterator[UInt8Array]:
            before = 0
            for index in bar:
                rgb = next(islice(frames, index - before, None))
                before = index + 1
                yield _beside(rgb, _over_color(work, track, index, request))

        write_gif(work / path, pictures(), [*(seconds[index] for index in kept), seconds[-1] + 1 / timing.rate])


def _beside(first: UInt8Array, second: UInt8Array) -> UInt8Array:
    """Two frames at the size of a GIF: one above the other if they are wide, else side by side."""
    pair = np.concatenate([first, second], axis=0 if first.shape[1] > first.shape[0] else 1)
    height, width = fitted_size(*pair.shape[:2])
    return np.asarray(Image.fromarray(pair).resize((width, height), Image.Resampling.LANCZOS))


def _write_styled(track: MaskTrack, request: CompletionRequest, out: OutputFolder) -> None:
    """Write layers with a soft edge or premultiplied alpha as PNG files."""
    step = f"png {track.name}"
    files = [f"objects/{track.name}/layers/{index:05d}.png" for index in range(track.num_frames)]
    if out.is_finished(step):
        return
    with out.step(step, files) as work:
        for index in _frames(step, track, quiet=request.output.quiet):
            write_rgba_png(work / files[index], _layer(work, track, index, request))


def _write_labels(track: MaskTrack, number: int, out: OutputFolder, *, quiet: bool) -> None:
    """Write a folder of label images per object, because amodal masks overlap and a pixel has only one label."""
    step = f"davis {track.name}"
    files = [f"davis/{track.name}/{index:05d}.png" for index in range(track.num_frames)]
    if out.is_finished(step):
        return
    label = (number - 1) % _LABELS + 1
    with out.step(step, files) as work:
        for index in _frames(step, track, quiet=quiet):
            write_label_png(work / files[index], _mask(work, track, index) * np.uint8(label))


def _write_annotations(name: Format, inputs: CompletionInputs, out: OutputFolder, *, quiet: bool) -> None:
    if out.is_finished(name):
        return
    with out.step(name, [ANNOTATIONS[name]]) as work:
        path = work / ANNOTATIONS[name]
        file = CocoFile(path) if name == "coco" else YoutubeVisFile(path)
        for track in inputs.tracks:
            masks = (_mask(work, track, index) for index in _frames(f"{name} {track.name}", track, quiet=quiet))
            file.add(_annotated(track, inputs), masks)
        file.close()


def _annotated(track: MaskTrack, inputs: CompletionInputs) -> AnnotatedTrack:
    """Metadata of an object; all objects share one category, because their classes are unknown."""
    number = _numbers(inputs)[track.name]
    return AnnotatedTrack(
        number=number,
        category=1,
        category_name="object",
        video=1,
        image_ids=range(1, track.num_frames + 1),
        file_names=_frame_names(inputs.clip),
        height=inputs.clip.height,
        width=inputs.clip.width,
        name=None if track.name == str(number) else track.name,
    )


def _numbers(inputs: CompletionInputs) -> dict[str, int]:
    """Numbers of the objects: their names if all are positive integers, else 1, 2, 3 and so on."""
    names = [track.name for track in inputs.tracks]
    if all(name.isascii() and name.isdecimal() and not name.startswith("0") for name in names):
        return {name: int(name) for name in names}
    return {name: number for number, name in enumerate(names, start=1)}


def _frame_names(clip: ClipReader) -> list[str]:
    """Names of the frames: their files', or numbered ones for a video."""
    if clip.path.is_dir():  # else all frames are in one file
        return [f"{clip.path.resolve().name}/{file.name}" for file in list_pictures(clip.path)]
    return [f"{clip.path.stem}/{index:05d}.png" for index in range(clip.num_frames)]


def _mask(work: Path, track: MaskTrack, index: int) -> BoolArray:
    return np.asarray(read_integers(work / mask_path(track, index)).values > 0)


def _layer(work: Path, track: MaskTrack, index: int, request: CompletionRequest) -> UInt8Array:
    layer = read_rgba(work / layer_path(track, index))
    return style_layer(layer, soft_edge=request.output.soft_edge or 0, alpha=request.output.alpha)


def _over_color(work: Path, track: MaskTrack, index: int, request: CompletionRequest) -> UInt8Array:
    """The layer with its soft edge over the chosen color, uint8 ``[H, W, 3]``."""
    layer = style_layer(read_rgba(work / layer_path(track, index)), soft_edge=request.output.soft_edge or 0)
    return over_color(layer, ImageColor.getrgb(request.output.over_color)[:3])


def _frames(step: str, track: MaskTrack, *, quiet: bool) -> Iterator[int]:
    """Frame indices, with a progress bar."""
    return iter(tqdm(range(track.num_frames), desc=step, unit="frame", disable=quiet))
