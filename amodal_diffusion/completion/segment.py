"""What `segment` does: a clip and prompts in, a folder of masks out, whole or absent."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from amodal_diffusion.basics import InputError
from amodal_diffusion.completion.request import Clicks, SegmentRequest, model_folder
from amodal_diffusion.completion.segmentation import check_prompts, open_segmenter, segment_clip
from amodal_diffusion.io.result_folder import InputRecord, OutputFolder
from amodal_diffusion.io.video_reader import open_clip
from amodal_diffusion.models.segmenters.protocol import CLASSICAL
from amodal_diffusion.options import package_version


def write_segmentation(request: SegmentRequest, clicks: Clicks) -> Path:
    """Segment the objects that the prompts name and write a folder of masks for each.

    Args:
        request: the clip and the folder.
        clicks: the prompts and the name of the segmenter.

    Returns:
        the output folder.

    Raises:
        InputError: if an input is wrong, or a prompt selects nothing.
    """
    if request.clip.is_dir() and request.out.resolve().is_relative_to(request.clip.resolve()):
        raise InputError(f"out: {request.out}: lies in {request.clip}, which is input; choose another folder")
    clip = open_clip(request.clip, allow_truncated=request.allow_truncated, bit_depth=request.bit_depth)
    prompts = check_prompts(clicks.prompts, clicks.segmenter, clip)
    weights = model_folder(clicks.segmenter)
    folder = OutputFolder(
        request.out,
        inputs={"clip": InputRecord.of(request.clip), **({"segmenter": InputRecord.of(weights)} if weights else {})},
        settings={
            "prompts": asdict(prompts),
            "segmenter": clicks.segmenter or CLASSICAL,
            "bit_depth": request.bit_depth,
            "dtype": request.dtype,
            "version": package_version(),
        },
        overwrite=request.overwrite,
    )
    segmenter = open_segmenter(
        clicks.segmenter, device=request.device, dtype=request.dtype, quiet=request.quiet, yes=request.yes
    )
    with folder.opened() as out:
        segment_clip(clip, prompts, lambda: segmenter, out, quiet=request.quiet)
        out.commit()
    return request.out
