"""What training reads: one object through one clip, and a dataset of procedural scenes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from amodal_diffusion.frames.crop import CloseUp, follow
from amodal_diffusion.frames.masks import cut_out_on_white
from amodal_diffusion.frames.transforms import Letterbox, mask_to_unit, to_uint8, to_unit
from amodal_diffusion.propagation.mask_prior import View, look_with_others
from amodal_diffusion.synthetic import Split
from amodal_diffusion.synthetic.catalogue import CATALOGUES
from amodal_diffusion.synthetic.rng import Rng
from amodal_diffusion.synthetic.splits import SceneSeries
from amodal_diffusion.types import BoolArray, FloatArray, UInt8Array

_CHANGE_STREAM = 100
"""Random stream of a change, apart from those of the scene itself (`synthetic.scenes`)."""


@dataclass(frozen=True)
class AmodalSample:
    """One object through one clip with its truth.

    Attributes:
        name: unique within its dataset.
        modal: visible part, bool ``[F, H, W]``.
        amodal: whole object inside the frame, bool ``[F, H, W]``; contains `modal`.
        depth: any scale, nearer is larger, float32 ``[F, H, W]``; None where there is none.
        rgb: frames, uint8 ``[F, H, W, 3]``; None where there are none.
        whole_rgb: whole object on white, uint8 ``[F, H, W, 3]``; None where it is not known.
        modal_rgb: visible part on white, uint8 ``[F, H, W, 3]``, where it is not simply `rgb` inside `modal`: cut out
            before it was scaled, as in use.
        seen: the visible mask with what other frames show, float32 ``[F, H, W]``, where the sample is a close-up of
            frames in which the object was followed; see :mod:`~amodal_diffusion.propagation.mask_prior`.
    """

    name: str
    modal: BoolArray
    amodal: BoolArray
    depth: FloatArray | None
    rgb: UInt8Array | None
    whole_rgb: UInt8Array | None
    modal_rgb: UInt8Array | None = None
    seen: FloatArray | None = None


def views(modal: BoolArray, size: tuple[int, int], *, zoom: float | None) -> Sequence[View]:
    """How a model looks at each frame: the whole of it, or the object closely.

    Args:
        modal: visible part, bool ``[F, H, W]``; for close-ups visible in at least one frame.
        size: height and width in pixels that the model works at.
        zoom: see :class:`~amodal_diffusion.frames.crop.CloseUp`; None for whole frames.

    Raises:
        InputError: if the object is never visible, so that there is nothing to look at closely.
    """
    source: tuple[int, int] = (modal.shape[1], modal.shape[2])
    if zoom is None:
        return [Letterbox(source, size)] * len(modal)
    return [CloseUp.at(place, source, size, zoom=zoom) for place in follow(modal)]


def closely(sample: AmodalSample, *, height: int, width: int, zoom: float, other_frames: bool = False) -> AmodalSample:
    """Look at a sample's object closely, as a model with this zoom does.

    Args:
        sample: its object is visible in at least one frame.
        height: pixels of the result.
        width: pixels of the result.
        zoom: see :class:`~amodal_diffusion.frames.crop.CloseUp`.
        other_frames: whether the result has what other frames show of the object; this takes RGB.
    """
    parts = views(sample.modal, (height, width), zoom=zoom)

    def look(frames: Tensor, pad_value: float | Literal["edge"]) -> Tensor:
        return torch.cat([part.apply(frames[i : i + 1], pad_value) for i, part in enumerate(parts)])

    def masks(values: BoolArray) -> BoolArray:
        inside: BoolArray = (look(mask_to_unit(values), -1.0) >= 0)[:, 0].numpy()
        return inside

    modal, seen = masks(sample.modal), None
    if other_frames and sample.rgb is not None:
        visible = torch.from_numpy(np.where(modal, np.float32(1), np.float32(-1)))[:, None]
        seen = look_with_others(sample.rgb, sample.modal, sample.depth, parts, visible)[:, 0].numpy()
    return replace(
        sample,
        seen=seen,
        modal=modal,
        amodal=masks(sample.amodal),
        depth=None if sample.depth is None else look(torch.from_numpy(sample.depth)[:, None], "edge")[:, 0].numpy(),
        rgb=None if sample.rgb is None else to_uint8(look(to_unit(sample.rgb), "edge")),
        whole_rgb=None if sample.whole_rgb is None else to_uint8(look(to_unit(sample.whole_rgb), 1.0)),
        modal_rgb=None
        if sample.rgb is None
        else to_uint8(look(to_unit(cut_out_on_white(sample.rgb, sample.modal)), 1.0)),
    )


class SceneDataset(Dataset[AmodalSample]):
    """The targets of procedural scenes; item i depends on nothing but (split, seed, i) and the size.

    ``test-v1`` is the fixed list of `data.scenes.splits` and comes in no other size, number or seed.

    Args:
        split: see `data.scenes`.
        length: number of samples; of ``test-v1`` the first ones.
        frames: F.
        height: H in pixels.
        width: W in pixels.
        with_rgb: whether samples have RGB; slower with it.
        seed: which of the disjoint sequences of scenes; 0 counts the scenes from 0.
        close_up: height, width and zoom of a close-up of the object instead of the whole frame; see `closely`.
        other_frames: whether close-ups have what other frames show of the object; this takes RGB.
        change: applied to each sample before the close-up, with its own random generator; see `data.corrupting`.

    Raises:
        InputError: if the length is not positive, the seed is negative, or `test-v1` is asked for other than it is.
    """

    def __init__(
        self,
        split: Split,
        *,
        length: int,
        frames: int,
        height: int,
        width: int,
        with_rgb: bool,
        seed: int = 0,
        close_up: tuple[int, int, float] | None = None,
        other_frames: bool = False,
        change: Callable[[AmodalSample, Rng], AmodalSample] | None = None,
    ) -> None:
        self.series = SceneSeries(split, length=length, frames=frames, height=height, width=width, seed=seed)
        self.with_rgb = with_rgb
        self.close_up = close_up
        self.other_frames = other_frames
        self.change = change

    def __len__(self) -> int:
        return self.series.length

    def name(self, index: int) -> str:
        """Name of a sample, without making it."""
        return self.series.name(index)

    def __getitem__(self, index: int) -> AmodalSample:
        scene = self.series.scene(index, with_rgb=self.with_rgb)
        target = scene.target
        sample = AmodalSample(scene.name, target.modal, target.amodal, scene.depth, scene.rgb, target.rgb)
        if self.change is not None:
            sample = self.change(sample, Rng(CATALOGUES[scene.split].key, scene.seed, _CHANGE_STREAM))
        if self.close_up is None:
            return sample
        height, width, zoom = self.close_up
        return closely(sample, height=height, width=width, zoom=zoom, other_frames=self.other_frames)
