"""Completion of live video: each frame comes out a bounded number of frames after it came in."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from numbers import Integral
from typing import TYPE_CHECKING

import numpy as np

from amodal_diffusion.basics import InputError, counted
from amodal_diffusion.config import check_seed
from amodal_diffusion.pipelines.object_streams import ObjectStream
from amodal_diffusion.pipelines.preprocessing import FrameInput, frames_of_objects
from amodal_diffusion.types import (
    AmodalResult,
    ArrayInput,
    BoolArray,
    FloatArray,
    UInt8Array,
    VideoClip,
    as_depth,
    as_frames,
    as_masks,
)

if TYPE_CHECKING:  # which makes the objects of this page
    from amodal_diffusion.pipelines.completer import AmodalCompleter, CompletionConfig

logger = logging.getLogger(__name__)

ONE_OBJECT = "object"
"""Name of the object where a mask comes without a name."""


@dataclass(frozen=True)
class OnlineFrame:
    """A frame that is final.

    Attributes:
        number: of the frame, from 0 for the first that came in.
        objects: result of this one frame for each object that the window shows, by name.
    """

    number: int
    objects: dict[str, AmodalResult]


@dataclass
class _Kept:
    """A frame of the window: what came in, and the amodal masks that went out, by name; None while it is not final."""

    rgb: UInt8Array
    modal: dict[str, BoolArray]
    depth: FloatArray | None
    amodal: dict[str, BoolArray] | None = field(default=None)


class OnlineCompleter:
    """Completes the objects of live video, from :meth:`~amodal_diffusion.AmodalCompleter.online`.

    A run of the networks sees the latest `window` frames and nothing else, but for a missing depth map (see
    :meth:`push`): crops, depth range, hard cuts and motion follow from them alone, so no result depends on a frame that
    came later than `look_ahead` frames after it. A frame that went out keeps its mask in later runs. The noise of a
    frame depends on its number and the seed alone.

    The networks run once in `stride` frames; the cost of a frame is that of one window divided by `stride`. An object
    that is hidden in all frames of the window is unknown there: the method S-AModal keeps track of it instead.

    Args:
        completer: with the networks.
        look_ahead: a frame is final when this many frames came after it, or earlier.
        stride: frames that become final in one run, from 1 to `look_ahead` + 1.
        window: frames that a run sees, more than `look_ahead`.
        config: how both stages are sampled.
        seed: the same seed gives the same results.

    Raises:
        InputError: if a number is out of range.
    """

    def __init__(
        self,
        completer: AmodalCompleter,
        *,
        look_ahead: int,
        stride: int,
        window: int,
        config: CompletionConfig,
        seed: int,
    ) -> None:
        check_seed(seed)
        numbers: dict[str, object] = {"look_ahead": look_ahead, "stride": stride, "window": window}
        for name, value in numbers.items():
            if isinstance(value, bool) or not isinstance(value, Integral):
                raise InputError(f"{name}: expected an integer, got {value!r}")
        if not 0 <= look_ahead < window:
            raise InputError(f"look_ahead: expected 0 to {window - 1}, below the window of {window}, got {look_ahead}")
        if not 1 <= stride <= look_ahead + 1:
            raise InputError(f"stride: expected 1 to {look_ahead + 1}, look_ahead + 1, got {stride}")
        self._completer, self._config, self._seed = completer, config, seed
        self._look_ahead, self._stride, self._window = look_ahead, stride, window
        self._frames: deque[_Kept] = deque()  # the last is the newest; those without amodal masks are not final
        self._count = 0
        self._gap = 0  # latest frames that came without depth, and took the map of a frame before

    def __repr__(self) -> str:
        """The numbers that decide on its delay, and how far it is."""
        return (
            f"OnlineCompleter(window {self._window}, stride {self._stride}, look_ahead {self._look_ahead}; "
            f"{counted(self._count, 'frame')} in)"
        )

    def push(
        self,
        rgb: ArrayInput,
        masks: ArrayInput | Mapping[str, ArrayInput],
        depth: ArrayInput | None = None,
        *,
        starts_shot: bool = False,
    ) -> list[OnlineFrame]:
        """Take the next frame.

        Args:
            rgb: uint8 ``[H, W, 3]``, or floats in 0..1, as `VideoClip` takes them.
            masks: modal mask ``[H, W]`` of one object, which is called ``"object"``, or masks by name. Objects may come
                and go; a name that is missing is hidden in this frame, and ``{}`` is for a frame that
                shows no object.
            depth: float ``[H, W]``, of one scale in all frames, nearer is larger; None if there is no depth. If a
                later frame has no map, the last one is used, for up to `window` frames, and a notice says so.
            starts_shot: whether the frame is the first after a hard cut. Frames before it become final at once.

        Returns:
            frames that are final now, in order; usually `stride` of them, or none.

        Raises:
            InputError: if a shape or a dtype is not as above.
        """
        kept = _kept(rgb, masks, depth)
        if self._frames and kept.rgb.shape != self._frames[-1].rgb.shape:
            found = list(self._frames[-1].rgb.shape)
            raise InputError(f"rgb: expected {found} as in the frames before, got {list(kept.rgb.shape)}")
        final = []
        if starts_shot:
            final = self.finish()
            self._frames.clear()
        kept = self._with_depth(kept)
        self._frames.append(kept)
        self._count += 1
        if len(self._frames) > self._window:
            self._frames.popleft()
        if self._waiting() > self._look_ahead:
            final += self._run(self._stride)
        return final

    def _with_depth(self, kept: _Kept) -> _Kept:
        """A frame without depth gets the map of the frame before, for as many frames as a window has, with a notice."""
        last = self._frames[-1].depth if self._frames else None
        if kept.depth is not None or last is None:
            self._gap = 0
            self._completer.notice_depth(given=kept.depth is not None)
            return kept
        if self._gap == 0:
            logger.warning(
                "depth: none for frame %d; the last map is used for up to %d frames", self._count, self._window
            )
        if self._gap == self._window:
            logger.warning("depth: none for %d frames; frames are completed without depth", self._window)
            return kept
        self._gap += 1
        return replace(kept, depth=last)

    def finish(self) -> list[OnlineFrame]:
        """The frames that are not final yet, in order; more frames may follow."""
        return self._run(self._waiting()) if self._waiting() else []

    def _waiting(self) -> int:
        return sum(kept.amodal is None for kept in self._frames)

    def _run(self, count: int) -> list[OnlineFrame]:
        """Complete the window and make the oldest frames that wait final."""
        done = len(self._frames) - self._waiting()
        first = self._count - len(self._frames)
        names = [*dict.fromkeys(name for kept in self._frames for name, mask in kept.modal.items() if mask.any())]
        found: list[dict[str, AmodalResult]] = [{} for _ in range(count)]
        if names:
            streams = [ObjectStream(done=done) for _ in names]
            ready = [0] * len(names)
            results = self._completer.stream_objects(
                self._inputs(names, done), streams, self._config, seed=self._seed, first_frame=first
            )
            for place, result in results:
                if ready[place] < count:
                    found[ready[place]][names[place]] = result
                    ready[place] += 1
        final = []
        for index, objects in enumerate(found, done):
            self._frames[index].amodal = {name: result.amodal_mask[0] for name, result in objects.items()}
            final.append(OnlineFrame(first + index, objects))
        return final

    def _inputs(self, names: list[str], done: int) -> list[list[FrameInput]]:
        """The frames of the window, of each an entry an object; final frames have their amodal mask."""
        rgb = np.stack([kept.rgb for kept in self._frames])
        nothing = np.zeros(rgb.shape[1:3], np.bool_)
        depths = [kept.depth for kept in self._frames if kept.depth is not None]
        depth = np.stack(depths) if len(depths) == len(rgb) else None
        clips = [VideoClip(rgb, np.stack([kept.modal.get(name, nothing) for kept in self._frames])) for name in names]
        inputs = list(frames_of_objects(clips, depth))
        for index in range(done):
            masks = self._frames[index].amodal or {}
            inputs[index] = [
                replace(frame, amodal=masks.get(name, nothing))
                for name, frame in zip(names, inputs[index], strict=True)
            ]
        return inputs


def _kept(rgb: ArrayInput, masks: ArrayInput | Mapping[str, ArrayInput], depth: ArrayInput | None) -> _Kept:
    """Convert and check one frame."""
    shape = getattr(rgb, "shape", None)  # of an array or a tensor
    if shape is not None and len(shape) != 3:
        raise InputError(f"rgb: expected one frame [H, W, 3], got {list(shape)}")
    if masks is None:
        raise InputError("masks: expected a mask [H, W], or masks by name, got None; give {} where nothing is seen")
    pictures = masks if isinstance(masks, (list, tuple)) else ()
    if len(pictures) > 1 and all(len(getattr(mask, "shape", ())) == 2 for mask in pictures):
        raise InputError(f"masks: got {len(pictures)} masks without names; give {{'cup': mask, 'dog': other}}")
    frame = as_frames([rgb], "rgb")[0]
    named = dict(masks) if isinstance(masks, Mapping) else {ONE_OBJECT: masks}
    modal = {name: as_masks([mask], f"masks {name}")[0] for name, mask in named.items()}
    scene = None if depth is None else as_depth([depth], "depth")[0]
    for name, array in (*((f"masks {name}", mask) for name, mask in modal.items()), ("depth", scene)):
        if array is not None and array.shape != frame.shape[:2]:
            raise InputError(f"{name}: expected {list(frame.shape[:2])} to match rgb, got {list(array.shape)}")
    return _Kept(frame, modal, scene)
