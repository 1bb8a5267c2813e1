"""Implementation of `segment`: predict modal masks from prompts and write them to a folder."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from amodal_diffusion.completion.request import Clicks, model_folder, package_version
from amodal_diffusion.completion.segmentation import check_prompts, open_segmenter, segment_clip
from amodal_diffusion.io.result_folder import InputRecord, OutputFolder
from amodal_diffusion.io.video_reader import open_clip
from amodal_diffusion.options import option
from amodal_diffusion.types import InputError


@dataclass(frozen=True)
class SegmentRequest:
    """Input and output.

    Attributes:
        clip: video file, folder of images, or single image
        out: folder of the masks, with one folder of PNG files per object; it appears only when complete
        device: auto, cpu, cuda, cuda:1 or mps; auto prefers a GPU
        dtype: auto, float32, float16 or bfloat16
        overwrite: replace earlier results of this program in MASKS
        allow_truncated: accept a damaged video and use the frames that decode
        quiet: show no progress bars
    """

    clip: Path = option(metavar="CLIP", positional=True)
    out: Path = option(metavar="MASKS")
    device: str = option("auto", metavar="NAME")
    dtype: str = option("auto", metavar="NAME")
    overwrite: bool = option(False)
    allow_truncated: bool = option(False)
    quiet: bool = option(False, short="-q")


def write_segmentation(request: SegmentRequest, clicks: Clicks) -> Path:
    """Segment the prompted objects and write a folder of masks for each.

    Args:
        request: the clip and the output folder.
        clicks: points, boxes or texts, and the segmenter.

    Returns:
        the output folder.

    Raises:
        InputError: if an input is wrong, or a prompt selects nothing.
    """
    if request.clip.is_dir() and request.out.resolve().is_relative_to(request.clip.resolve()):
        raise InputError(f"out: {request.out}: lies in {request.clip}, which is input; choose another folder")
    clip = open_clip(request.clip, allow_truncated=request.allow_truncated)
    prompts = check_prompts(clicks.prompts, clicks.segmenter, clip)
    name = str(clicks.segmenter)  # `check_prompts` refuses None
    weights = model_folder(name)
    folder = OutputFolder(
        request.out,
        inputs={"clip": InputRecord.of(request.clip), **({"segmenter": InputRecord.of(weights)} if weights else {})},
        settings={
            "prompts": asdict(prompts),
            "segmenter": name,
            "dtype": request.dtype,
            "version": package_version(),
        },
        overwrite=request.overwrite,
    )
    segmenter = open_segmenter(name, device=request.device, dtype=request.dtype, quiet=request.quiet)
    with folder.opened() as out:
        segment_clip(clip, prompts, lambda: segmenter, out, quiet=request.quiet)
        out.commit()
    return request.out
