"""SAM 2 and its kin (transformers): points and boxes in some frames become masks in all, both ways from there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor

from amodal_diffusion.basics import InputError
from amodal_diffusion.frames.masks import decode_rle
from amodal_diffusion.frames.transforms import resize
from amodal_diffusion.io.prompts import Prompts, Shown
from amodal_diffusion.models.segmenters.preprocessing import Preprocessing, masks_from_logits
from amodal_diffusion.models.segmenters.protocol import ObjectMask
from amodal_diffusion.types import BoolArray, UInt8Array

_HELD = 64  # shrunken frames held while a clip is gone through backwards, 3 MB each at 1024 pixels
_INSIDE, _BESIDE, _TOP_LEFT, _BOTTOM_RIGHT = 1, 0, 2, 3  # labels of points in SAM
_ALONG = 8  # points that stand for a stroke
_UNUSED = ("pred_masks", "high_res_masks")  # of a frame's output: no later frame looks at them


class Sam2Segmenter:
    """SAM 2's memory of an object, frame by frame.

    Every frame that a prompt shows an object in is segmented from that prompt alone; the others follow, forwards from
    the object's first such frame to the end of the clip, then backwards from it. What is kept of the frames that have
    passed is what the network can still look at, so memory does not grow with the clip.
    """

    def __init__(self, network: Any, session_class: type[Any], preprocessing: Preprocessing) -> None:  # noqa: ANN401
        """Take a loaded network.

        Args:
            network: ``Sam2VideoModel`` or a model with the same interface, on its device.
            session_class: its inference session.
            preprocessing: of its frames.
        """
        self._network, self._session_class, self._preprocessing = network.eval(), session_class, preprocessing

    def segment(self, frames: Iterable[UInt8Array], prompts: Prompts) -> Iterator[ObjectMask]:
        """Segment a clip, as `Segmenter` says; the frames with prompts come first.

        Args:
            frames: uint8 ``[H, W, 3]``, RGB; gone through twice, and again for each 64 frames before a first prompt.
            prompts: points, boxes, strokes (as points along them) and painted masks.

        Raises:
            InputError: if there are texts among the prompts.
        """
        if prompts.texts:
            kind = type(self._network).__name__
            raise InputError(f"text: {kind} knows points and boxes alone; give those, or a SAM 3 model (facebook/sam3)")
        return self._segment(frames, {name: prompts.shown(name) for name in prompts.objects})

    def _segment(self, frames: Iterable[UInt8Array], shown: Mapping[str, Mapping[int, Shown]]) -> Iterator[ObjectMask]:
        tracks = self._tracks(shown)
        wanted = {frame for track in tracks for frame in track.shown}
        for frame, rgb in enumerate(islice(frames, max(wanted) + 1)):
            if frame in wanted:
                pixels = self._pixels(self._preprocessing.shrink(rgb))
                for track in tracks:
                    if frame in track.shown:
                        track.show(frame, self._preprocessing, rgb.shape[:2])
                        yield track.mask(frame, pixels, rgb.shape[:2])
        for frame, rgb in enumerate(frames):
            following = [track for track in tracks if frame > track.first and frame not in track.shown]
            if following:
                pixels = self._pixels(self._preprocessing.shrink(rgb))
                yield from (track.mask(frame, pixels, rgb.shape[:2]) for track in following)
        for frame, shrunk, size in self._backwards(frames, max(track.first for track in tracks)):
            pixels = self._pixels(shrunk)
            preceding = [track for track in tracks if frame < track.first]
            yield from (track.mask(frame, pixels, size, reverse=True) for track in preceding)

    def _tracks(self, shown: Mapping[str, Mapping[int, Shown]]) -> list[_Track]:
        """One session an object, so that each has frames with prompts of its own; what is seen in a frame is shared."""
        sessions = [
            self._session_class(inference_device=self._network.device, dtype=self._network.dtype) for _ in shown
        ]
        for session in sessions:
            session.cache = sessions[0].cache
        return [
            _Track(name, frames, session, self._network)
            for (name, frames), session in zip(shown.items(), sessions, strict=True)
        ]

    def _pixels(self, shrunk: Tensor) -> Tensor:
        """Network input ``[3, size, size]`` on its device."""
        return self._preprocessing.normalise(shrunk.to(self._network.device)).to(self._network.dtype)

    def _backwards(self, frames: Iterable[UInt8Array], stop: int) -> Iterator[tuple[int, Tensor, tuple[int, ...]]]:
        """Frames before one, last first, at the network's size, each with its index and its own size."""
        while stop > 0:
            start = max(0, stop - _HELD)
            held = [(self._preprocessing.shrink(rgb), rgb.shape[:2]) for rgb in islice(frames, start, stop)]
            for frame in range(stop - 1, start - 1, -1):
                yield frame, *held.pop()
            stop = start


class _Track:
    """One object's session."""

    def __init__(self, name: str, shown: Mapping[int, Shown], session: Any, network: Any) -> None:  # noqa: ANN401
        self.name, self.shown, self.first = name, shown, min(shown)
        self._session, self._network = session, network
        config = network.config
        self._window = max(config.num_maskmem, config.max_object_pointers_in_encoder)  # frames that it looks back
        self._session.obj_id_to_idx(0)  # the one object of the session

    def show(self, frame: int, preprocessing: Preprocessing, size: tuple[int, ...]) -> None:
        """Hand the prompts of a frame to the network, before that frame."""
        self._session.obj_with_new_inputs = [0]
        painted, box = self.shown[frame].mask, self.shown[frame].box
        if painted is not None:
            mask = torch.from_numpy(decode_rle(painted.mask)).float()[None, None]  # [1, 1, H, W]
            self._session.add_mask_inputs(0, frame, resize(mask, (preprocessing.size, preprocessing.size)).round())
            return
        points = [(point.x, point.y, point.inside) for point in self.shown[frame].points]
        for stroke in self.shown[frame].strokes:
            points += [(x, y, stroke.inside) for x, y in _spread(decode_rle(stroke.mask))]
        places = [(x, y) for x, y, _ in points]
        labels = [_INSIDE if inside else _BESIDE for _, _, inside in points]
        if box is not None:  # goes before the points
            places = [(box.left, box.top), (box.right, box.bottom), *places]
            labels = [_TOP_LEFT, _BOTTOM_RIGHT, *labels]
        coordinates = preprocessing.scale(places, height=size[0], width=size[1])
        self._session.add_point_inputs(
            0,
            frame,
            {
                "point_coords": coordinates[None, None],  # [1, 1, n, 2]
                "point_labels": torch.tensor(labels, dtype=torch.int32)[None, None],  # [1, 1, n]
            },
        )

    def mask(self, frame: int, pixels: Tensor, size: tuple[int, ...], *, reverse: bool = False) -> ObjectMask:
        """Let the network see a frame."""
        logits = self._network(self._session, frame_idx=frame, frame=pixels, reverse=reverse).pred_masks  # [1, 1, h, w]
        self._forget(frame, reverse=reverse)
        mask: BoolArray = masks_from_logits(logits[0], height=size[0], width=size[1])[0]
        return ObjectMask(self.name, frame, mask)

    def _forget(self, frame: int, *, reverse: bool) -> None:
        """Drop all that no frame to come looks at; the first frames after a prompt are needed on the way back."""
        session = self._session
        session.processed_frames.clear()
        session.frames_tracked_per_obj[0].clear()
        outputs = session.output_dict_per_obj[0]
        followed = outputs["non_cond_frame_outputs"]
        for index in list(followed):
            on_the_way_back = not reverse and self.first < index <= self.first + self._window
            if abs(index - frame) >= self._window and not on_the_way_back:
                del followed[index]
        for output in (*outputs["cond_frame_outputs"].values(), *followed.values()):
            for name in _UNUSED:
                output.pop(name, None)


def _spread(stroke: BoolArray) -> list[tuple[float, float]]:
    """X and y of up to `_ALONG` pixels, evenly over a stroke."""
    rows, columns = np.nonzero(stroke)
    chosen = np.linspace(0, len(rows) - 1, min(_ALONG, len(rows))).round().astype(int)
    return [(float(columns[index]), float(rows[index])) for index in chosen]
