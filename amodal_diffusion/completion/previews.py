"""What a user looks at first: the overlay video, and a contact sheet of the clip and its completed objects."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from amodal_diffusion.completion.inputs import CompletionInputs
from amodal_diffusion.completion.layered_export import most_hidden_frame
from amodal_diffusion.completion.layout import OVERLAY, SHEET, layer_path, mask_path
from amodal_diffusion.completion.objects import OnProgress
from amodal_diffusion.completion.request import CompletionRequest
from amodal_diffusion.frames.drawing import OverlayLayer, SheetRow, draw_overlay, draw_sheet
from amodal_diffusion.frames.layers import over_color
from amodal_diffusion.io.background import read_ahead
from amodal_diffusion.io.images import read_integers, read_rgba
from amodal_diffusion.io.mask_files import MaskTrack
from amodal_diffusion.io.result_folder import OutputFolder
from amodal_diffusion.io.video_writer import CarriedSound, VideoLayout, VideoWriter
from amodal_diffusion.types import UInt8Array

_COLUMNS = 5  # frames on the sheet
_WIDTH = 320  # pixels of a frame on the sheet, at most
_LEAST_WIDTH = 96  # towards which smaller frames are enlarged, by a whole factor
_MOST_OBJECTS = 12  # on the sheet, each in a row of its own
_WHITE = (255, 255, 255)


def write_previews(
    inputs: CompletionInputs,
    request: CompletionRequest,
    out: OutputFolder,
    *,
    sound: CarriedSound | None,
    sheet: bool,
    on_progress: OnProgress,
) -> None:
    """Write the overlay video and the contact sheet in one pass over the clip.

    Args:
        inputs: the clip and its objects, whose masks and layers are finished.
        request: says whether there are layers.
        out: opened result folder.
        sound: of the overlay video.
        sheet: whether to write the contact sheet.
        on_progress: told of the frames of ``overlay``.
    """
    if out.is_finished("overlay"):
        return
    clip = inputs.clip
    with (
        out.step("overlay", [OVERLAY, SHEET] if sheet else [OVERLAY]) as work,
        VideoWriter(work / OVERLAY, "mp4", VideoLayout.of(clip), sound_of=sound) as video,
        tqdm(total=clip.num_frames, desc="overlay", unit="frame", disable=request.output.quiet) as bar,
    ):
        shown = _Sheet.of(inputs, work, painted=request.painted) if sheet else None
        visible = zip(*inputs.tracks, strict=True)
        layers = (
            [
                OverlayLayer(mask, read_integers(work / mask_path(track, index)).values > 0)
                for track, mask in zip(inputs.tracks, masks, strict=True)
            ]
            for index, masks in enumerate(visible)
        )
        with closing(read_ahead(zip(clip, layers, strict=True))) as frames:
            for index, (rgb, drawn) in enumerate(frames):
                on_progress("overlay", index, clip.num_frames)
                overlay = draw_overlay(rgb, drawn)
                video.write(overlay)
                if shown is not None and index in shown.frames:
                    shown.add(index, rgb, overlay)
                bar.update()
        if shown is not None:
            Image.fromarray(shown.draw()).save(work / SHEET, compress_level=3)


@dataclass
class _Sheet:
    """The contact sheet: a column for each of a few frames; rows for the frame, the overlay and each object.

    Attributes:
        frames: that are shown, in order; one of them is that in which most is hidden.
        tracks: objects with a row of their own.
        work: result folder, from which layers are read.
        rows: pictures by the label of their row.
    """

    frames: Sequence[int]
    tracks: Sequence[MaskTrack]
    work: Path
    rows: dict[str, list[UInt8Array]] = field(default_factory=dict)

    @classmethod
    def of(cls, inputs: CompletionInputs, work: Path, *, painted: bool) -> _Sheet:
        """Choose the frames and objects of a sheet."""
        evenly = [int(index) for index in np.linspace(0, inputs.clip.num_frames - 1, _COLUMNS).round()]
        hidden = most_hidden_frame(inputs, work)
        nearest = min(range(len(evenly)), key=lambda place: abs(evenly[place] - hidden))
        evenly[nearest] = hidden
        return cls(sorted(set(evenly)), inputs.tracks[:_MOST_OBJECTS] if painted else (), work)

    def add(self, index: int, rgb: UInt8Array, overlay: UInt8Array) -> None:
        """Take the pictures of a frame that is shown."""
        pictures = {"frame": rgb, "masks": overlay}
        for track in self.tracks:
            layer = read_rgba(self.work / layer_path(track, index))
            pictures[f"object {track.name}"] = over_color(layer, _WHITE)
        for label, picture in pictures.items():
            self.rows.setdefault(label, []).append(_sized(picture))

    def draw(self) -> UInt8Array:
        """The sheet, uint8 ``[h, w, 3]``."""
        rows = [SheetRow(label, pictures) for label, pictures in self.rows.items()]
        return draw_sheet(rows, column_labels=[f"frame {index}" for index in self.frames])


def _sized(picture: UInt8Array) -> UInt8Array:
    """A picture at the size of the sheet."""
    height, width = picture.shape[:2]
    if width <= _WIDTH:
        scale = max(1, _LEAST_WIDTH // width)
        return picture.repeat(scale, axis=0).repeat(scale, axis=1)
    size = (_WIDTH, max(1, round(height * _WIDTH / width)))
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BOX))
