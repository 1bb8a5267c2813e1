"""`amodal-diffusion synthesize`: occluded images with amodal masks, made of the complete objects of LVIS or COCO."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from jsonargparse import Namespace
from jsonargparse.typing import NonNegativeFloat, NonNegativeInt, PositiveInt

from amodal_diffusion.basics import InputError
from amodal_diffusion.models.libraries import quieten_libraries
from amodal_diffusion.options import add_options, option, read_options
from amodal_diffusion.parsing import CommandParser
from amodal_diffusion.pipelines.methods import DEFAULT_MODEL

SUMMARY = "make occluded images with amodal masks from the complete objects of an LVIS or COCO file"
_SHARES = ("least_iou", "least_confidence")


def read_range(text: str | tuple[float, float]) -> tuple[float, float]:
    """Parse two numbers with a comma between them.

    Raises:
        InputError: if they are something else.
    """
    try:
        low, high = (float(part) for part in (text.split(",") if isinstance(text, str) else text))
    except ValueError as error:
        raise InputError(f"expected two numbers LOW,HIGH, got {text}") from error
    return low, high


@dataclass(frozen=True)
class Synthesis:
    """Synthesis.

    Attributes:
        annotations: LVIS or COCO file with masks
        images: root of its images
        out: folder for the images and annotations.json, in the layout of KINS
        count: number of occluded images; each is written with its untouched twin
        seed: random seed; an image depends on the seed and its number alone
        rate: range of the share of an object that is hidden
        scale: range of the occluder's size over the object's, as the root of their areas
        same_category: also let objects hide others of their category
        feather: width in pixels of the occluder's soft edge
        picture_format: jpg is a tenth of the size
        model: folder or Hugging Face Hub ID of the SAMEO checkpoint that finds the complete objects; tiny is bundled
        base: folder of the pretrained weights below a checkpoint that holds a mask decoder alone, if they are not where
            it says
        least_iou: least IoU of predicted and annotated mask at which nothing is taken to hide an object
        least_confidence: least predicted IoU of a mask that counts
        least_area: least number of pixels of an object
        device: auto, cpu, cuda, cuda:1 or mps; auto prefers a GPU
        yes: download what is not in the local cache without asking
    """

    annotations: Path = option(metavar="ANNOTATIONS", positional=True)
    images: Path = option(metavar="DIR")
    out: Path = option(metavar="DIR")
    count: PositiveInt = option(1000, metavar="N")
    seed: NonNegativeInt = option(0, metavar="S")
    rate: tuple[float, float] = option((0.1, 0.7), metavar="LOW,HIGH", read=read_range)
    scale: tuple[float, float] = option((0.6, 1.2), metavar="LOW,HIGH", read=read_range)
    same_category: bool | None = option(True)
    feather: NonNegativeFloat = option(1.0, metavar="PIXELS")
    picture_format: str = option("jpg", choices=("jpg", "png"))
    model: str = option(DEFAULT_MODEL, metavar="NAME")
    base: Path | None = option(None, metavar="DIR", read=Path)
    least_iou: NonNegativeFloat = option(0.9, metavar="SHARE")
    least_confidence: NonNegativeFloat = option(0.8, metavar="SHARE")
    least_area: PositiveInt = option(1024, metavar="PIXELS")
    device: str = option("auto", metavar="NAME")
    yes: bool = option(False)


def add_arguments(parser: CommandParser) -> None:
    """Declare the command line.

    Args:
        parser: parser of this subcommand.
    """
    add_options(parser, Synthesis)


def run(args: Namespace) -> None:
    """Make the images, and print how many objects and pairs were left out for which reason.

    Args:
        args: what :func:`add_arguments` declares.

    Raises:
        InputError: if an input is wrong, DIR has annotations, or too few objects are complete.
    """
    chosen = read_options(Synthesis, args)
    for name in _SHARES:
        if getattr(chosen, name) > 1:
            flag = name.replace("_", "-")
            raise InputError(f"--{flag}: expected a share from 0 to 1, got {getattr(chosen, name)}")
    quieten_libraries(quiet=False)
    from amodal_diffusion.data.amodal_lvis import PoolRule, SynthesisSettings
    from amodal_diffusion.pipelines.refinement import check_synthesis, open_sameo, synthesize_images
    from amodal_diffusion.synthetic.occlusion import OcclusionRule

    settings = SynthesisSettings(
        count=chosen.count,
        seed=chosen.seed,
        same_category=chosen.same_category is not False,
        feather=chosen.feather,
        picture_format=chosen.picture_format,
        rule=OcclusionRule(scale=chosen.scale, rate=chosen.rate),
    )
    rule = PoolRule(chosen.least_iou, least_confidence=chosen.least_confidence, least_area=chosen.least_area)
    sources = check_synthesis(chosen.annotations, chosen.images, chosen.out)
    segmenter = open_sameo(chosen.model, base=chosen.base, device=chosen.device, yes=chosen.yes)
    left_out = synthesize_images(sources, chosen.images, chosen.out, segmenter, settings, rule)
    print(f"{chosen.out}: {chosen.count} occluded images and their untouched twins")
    for what, reasons in left_out.items():
        print(f"{what} left out: {_shown(reasons)}")


def _shown(reasons: Mapping[str, int]) -> str:
    """Reasons with their counts, the most frequent first."""
    ordered = sorted(reasons.items(), key=lambda item: -item[1])
    return ", ".join(f"{reason} {count}" for reason, count in ordered) or "none"
