"""What `segment` does: a clip and prompts in, a folder of masks out, whole or absent."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from amodal_diffusion.completion.request import Clicks, model_folder, package_version, read_bit_depth
from amodal_diffusion.completion.segmentation import check_prompts, open_segmenter, segment_clip
from amodal_diffusion.io.result_folder import InputRecord, OutputFolder
from amodal_diffusion.io.video_reader import open_clip
from amodal_diffusion.models.segmenters.protocol import CLASSICAL
from amodal_diffusion.options import option
from amodal_diffusion.types import InputError


@dataclass(frozen=True)
class SegmentRequest:
    """Input and output.

    Attributes:
        clip: a video file, a folder of pictures, or one picture, animated or not
        out: folder of the masks, with one folder of PNGs per object; whole or absent
        device: auto, cpu, cuda, cuda:1, mps
        dtype: auto, float32, float16, bfloat16
        overwrite: replace earlier results of this program in MASKS
        allow_truncated: use the frames of a damaged video that can be decoded
        bit_depth: bits of the values in pictures of 16 bits, such as 12; by the files if left out
        quiet: no progress bars
        yes: download what is not in the local cache without asking
    """

    clip: Path = option(metavar="CLIP", positional=True)
    out: Path = option(metavar="MASKS")
    device: str = option("auto", metavar="NAME")
    dtype: str = option("auto", metavar="NAME")
    overwrite: bool = option(False)
    allow_truncated: bool = option(False)
    bit_depth: int | None = option(None, metavar="N", read=read_bit_depth)
    quiet: bool = option(False, short="-q")
    yes: bool = option(False)


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
