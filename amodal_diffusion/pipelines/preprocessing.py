"""From frames to what the networks see, for training and for inference: crop or letterbox or stretch, then ranges.

Stage 1 gets the modal mask and depth, stage 2 the modal RGB on white and the amodal mask (docs/method.md, section 1).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from amodal_diffusion.basics import Cuts, InputError
from amodal_diffusion.config import SamplingConfig
from amodal_diffusion.frames.crop import CropCenter, Geometry, crop_centers, frame_geometry
from amodal_diffusion.frames.cuts import clip_cuts, shots_of
from amodal_diffusion.frames.masks import cut_out_on_white
from amodal_diffusion.frames.transforms import (
    CPU,
    Stretch,
    depth_to_unit,
    mask_to_unit,
    on_device,
    resize_levels,
    resize_picture,
    to_unit,
)
from amodal_diffusion.models.offloading import execution_device
from amodal_diffusion.propagation.mask_prior import apply_temporal_prior
from amodal_diffusion.types import ArrayInput, BoolArray, FloatArray, UInt8Array, VideoClip, as_frames, as_object_masks


@dataclass(frozen=True)
class FrameInput:
    """One frame of one object.

    Attributes:
        rgb: uint8 ``[H, W, 3]``.
        modal: visible part of the object, bool ``[H, W]``; may be empty.
        depth: float32 ``[H, W]`` in [-1, 1], nearer is larger, already scaled over the whole shot; None for none.
        amodal: the whole object where it is known already, bool ``[H, W]``; stage 1 then leaves this frame alone.
        center: of the object-centric crop, from :func:`~amodal_diffusion.crop_centers` over the whole clip; needed for
            ``fit="crop"``.
        score: stage 1's score where it is known already, as `AmodalResult.score` has it, float32 ``[height, width]`` in
            [0, 1] at the network's size; stage 1 then only cuts the mask from it.
        starts_shot: whether the frame is the first after a hard cut, which nothing crosses; of the first frame of a
            stream it says nothing.
        inside: rows and columns of the camera's frame, if margins surround it; None for no margins.
    """

    rgb: UInt8Array
    modal: BoolArray
    depth: FloatArray | None = None
    amodal: BoolArray | None = None
    center: CropCenter | None = None
    score: FloatArray | None = None
    starts_shot: bool = False
    inside: tuple[slice, slice] | None = None

    def __repr__(self) -> str:
        """Size and what there is, without the arrays."""
        there = [name for name in ("depth", "amodal", "center", "score") if getattr(self, name) is not None]
        size = "x".join(str(length) for length in np.shape(self.modal)[::-1])
        return f"FrameInput({', '.join([size, *there])}{'; starts a shot' if self.starts_shot else ''})"

    def geometry(self, config: SamplingConfig) -> Geometry:
        """How the network sees the frame."""
        height, width = self.modal.shape
        return frame_geometry(config, (height, width), self.center)


def clip_frames(
    clip: VideoClip, depth: FloatArray | None = None, amodal_mask: BoolArray | None = None
) -> Iterator[FrameInput]:
    """Take a clip apart, and find its hard cuts if the clip asks for that.

    Args:
        clip: frames, modal masks and cuts.
        depth: float ``[F, H, W]``, any scale, nearer is larger; None for none.
        amodal_mask: bool ``[F, H, W]``, where it is known.

    Raises:
        InputError: if shapes do not match, or masks are not boolean.
    """
    return (entries[0] for entries in frames_of_objects([clip], depth, [amodal_mask]))


def frames_of_objects(
    clips: Sequence[VideoClip],
    depth: FloatArray | None = None,
    amodal_masks: Sequence[BoolArray | None] | None = None,
) -> Iterator[list[FrameInput]]:
    """Take a clip of several objects apart; hard cuts are found and depth is scaled once for all of them.

    Args:
        clips: of the same frames and cuts, with the modal masks of one object each.
        depth: as for :func:`clip_frames`.
        amodal_masks: bool ``[F, H, W]`` for each object; None where it is not known.

    Returns:
        of each frame, one entry an object.

    Raises:
        InputError: as :func:`clip_frames`.
    """
    first, shape = clips[0], clips[0].modal_mask.shape
    known = [None] * len(clips) if amodal_masks is None else list(amodal_masks)
    for name, array in (("depth", depth), *(("amodal_mask", mask) for mask in known)):
        if array is not None and array.shape != shape:
            raise InputError(f"{name}: expected {list(shape)} to match the clip, got {list(array.shape)}")
    for mask in known:
        if mask is not None and mask.dtype != np.bool_:
            raise InputError(f"amodal_mask: expected bool, got {mask.dtype}")
    cuts = clip_cuts(first)
    scaled = None
    if depth is not None:
        shots = (depth_to_unit(depth[start:stop]) for start, stop in shots_of(first.num_frames, cuts))
        scaled = torch.cat(list(shots))[:, 0].numpy()  # [F, H, W]
    masks = [
        clip.modal_mask if mask is None else clip.modal_mask | mask for clip, mask in zip(clips, known, strict=True)
    ]
    centers = [crop_centers(whole, cuts=cuts) for whole in masks]
    return (
        [
            FrameInput(
                rgb=clip.rgb[index],
                modal=clip.modal_mask[index],
                depth=None if scaled is None else scaled[index],
                amodal=None if mask is None else mask[index],
                center=center[index],
                starts_shot=index in cuts,
            )
            for clip, mask, center in zip(clips, known, centers, strict=True)
        ]
        for index in range(first.num_frames)
    )


def clips_of(
    frames: VideoClip | ArrayInput, masks: ArrayInput | None, fps: float, cuts: Cuts, *, labels: bool
) -> tuple[list[VideoClip], bool]:
    """One clip for each object that a caller gives.

    Args:
        frames: a clip, or the frames of one.
        masks: modal masks for frames, see :func:`~amodal_diffusion.types.as_object_masks`; None with a clip.
        fps: for frames.
        cuts: for frames.
        labels: as for the masks.

    Returns:
        the clips, which share their frames; whether the masks have an axis of objects.

    Raises:
        InputError: if masks are missing, or come with a clip, or do not fit the frames, or an object is never visible.
    """
    if isinstance(frames, VideoClip):
        if masks is not None or labels:
            raise InputError("masks: the clip has modal masks already; give frames and masks, or a clip alone")
        return [frames], False
    if masks is None:
        raise InputError("masks: missing; give frames and modal masks, or a VideoClip, which has both")
    if isinstance(masks, Mapping):
        raise InputError("masks: expected an array, got masks by name; give np.stack(list(masks.values()))")
    rgb = as_frames(frames, "frames")
    objects, several = as_object_masks(masks, "masks", len(rgb), labels=labels)
    for number, mask in enumerate(objects):
        name = f"masks[{number}]" if several else "masks"
        if mask.shape != rgb.shape[:3]:
            raise InputError(f"{name}: expected {list(rgb.shape[:3])} to match the frames, got {list(mask.shape)}")
        if not mask.any():
            raise InputError(f"{name}: empty in every frame; an object must be visible in at least one")
    return [VideoClip(rgb, mask, fps, cuts) for mask in objects], several


def frame_device(network: nn.Module) -> torch.device:
    """Where frames and masks are scaled for a network: on its GPU, so that the GPU does not wait for a CPU, or a CPU.

    Other devices lack float64 or antialiasing.

    Args:
        network: with parameters.
    """
    device = execution_device(network)
    return device if device.type == "cuda" else CPU


def preprocess_segmentation(
    frames: Sequence[FrameInput], config: SamplingConfig, device: torch.device = CPU
) -> tuple[Tensor, Tensor | None]:
    """The conditions of stage 1.

    Args:
        frames: of a window, of one size.
        config: geometry, and whether the modal mask carries the temporal mask prior.
        device: where to scale them, see :func:`frame_device`.

    Returns:
        modal mask, float32 ``[F, 1, h, w]`` in [-1, 1]; depth, likewise, or None if a frame has none. In a crop, depth
        is scaled over what the network sees.
    """
    geometries = [frame.geometry(config) for frame in frames]
    modal = torch.cat(
        [preprocess_mask(frame.modal, geometry, device) for frame, geometry in zip(frames, geometries, strict=True)]
    )
    maps = [frame.depth for frame in frames if frame.depth is not None]
    guide = None
    if len(maps) == len(frames):
        cropped = (
            geometry.apply(on_device(depth, device)[None, None], "edge")
            for depth, geometry in zip(maps, geometries, strict=True)
        )
        guide = torch.cat(list(cropped))  # [F, 1, h, w]
        if config.fit == "crop":
            guide = depth_to_unit(guide[:, 0].cpu().numpy()).to(device)
    if config.beyond.temporal_prior:
        rgb, visible = np.stack([frame.rgb for frame in frames]), np.stack([frame.modal for frame in frames])
        depth = None if guide is None else np.stack(maps)
        modal = apply_temporal_prior(rgb, visible, depth, geometries, modal.cpu()).to(device)
    return modal, guide


def preprocess_content(
    frames: Sequence[FrameInput], amodal: Sequence[BoolArray], config: SamplingConfig, device: torch.device = CPU
) -> tuple[Tensor, Tensor]:
    """The conditions of stage 2.

    Args:
        frames: of a window, of one size.
        amodal: the whole object in each, bool ``[H, W]``.
        config: geometry.
        device: where to scale them, see :func:`frame_device`.

    Returns:
        visible part on white, float32 ``[F, 3, h, w]`` in [-1, 1]; amodal mask, float32 ``[F, 1, h, w]`` in [-1, 1].
    """
    geometries = [frame.geometry(config) for frame in frames]
    modal = [
        preprocess_on_white(frame.rgb, frame.modal, geometry, device)
        for frame, geometry in zip(frames, geometries, strict=True)
    ]
    guide = [preprocess_mask(mask, geometry, device) for mask, geometry in zip(amodal, geometries, strict=True)]
    return torch.cat(modal), torch.cat(guide)


def preprocess_mask(mask: BoolArray, geometry: Geometry, device: torch.device = CPU) -> Tensor:
    """A mask of a frame as the network sees it.

    Args:
        mask: bool ``[H, W]``.
        geometry: how the network sees the frame.
        device: where to scale it.

    Returns:
        float32 ``[1, 1, h, w]``, -1 outside and 1 inside; a stretched mask is an 8-bit picture with gray edges, as the
        reference gives it to the network.
    """
    if isinstance(geometry, Stretch):
        levels = _stretched(mask.astype(np.uint8) * np.uint8(255), geometry, device)
        return levels[None, None].float() / 127.5 - 1.0
    inside = geometry.apply(mask_to_unit(on_device(mask[None], device)), -1.0) >= 0
    return inside.float() * 2 - 1


def preprocess_on_white(rgb: UInt8Array, mask: BoolArray, geometry: Geometry, device: torch.device = CPU) -> Tensor:
    """A frame inside a mask, white elsewhere, as the network sees it.

    Args:
        rgb: uint8 ``[H, W, 3]``.
        mask: bool ``[H, W]``.
        geometry: how the network sees the frame.
        device: where to scale it.

    Returns:
        float32 ``[1, 3, h, w]`` in [-1, 1].
    """
    visible = cut_out_on_white(rgb[None], mask[None])
    if isinstance(geometry, Stretch):
        return to_unit(_stretched(visible[0], geometry, device)[None])
    return geometry.apply(to_unit(on_device(visible, device)), 1.0)


def _stretched(pixels: UInt8Array, geometry: Stretch, device: torch.device) -> Tensor:
    """An 8-bit picture, uint8 ``[H, W]`` or ``[H, W, 3]``, at the network's size, with the same bytes on any device."""
    size, antialias = geometry.target_hw, geometry.antialias
    if device == CPU:
        return torch.from_numpy(resize_picture(pixels, size, antialias=antialias))
    planes = on_device(np.atleast_3d(pixels), device).movedim(-1, 0)
    scaled = resize_levels(planes, size, antialias=antialias).movedim(0, -1)
    return scaled if pixels.ndim == 3 else scaled[..., 0]
