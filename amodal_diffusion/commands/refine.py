"""`amodal-diffusion refine`: amodal masks for the boxes of any detector."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from jsonargparse import Namespace

from amodal_diffusion.models.libraries import quieten_libraries
from amodal_diffusion.options import add_options, option, read_options
from amodal_diffusion.parsing import CommandParser
from amodal_diffusion.pipelines.methods import DEFAULT_MODEL

SUMMARY = "predict amodal masks for the boxes of any detector, with SAMEO"


@dataclass(frozen=True)
class Refinement:
    """Refinement.

    Attributes:
        detections: JSON: COCO results with boxes [x, y, width, height], or an object with images and annotations
        images: folder of the images
        out: file for the COCO results with amodal masks; must not exist
        model: folder or Hugging Face Hub ID of a SAMEO checkpoint; tiny is the bundled one
        base: folder of the pretrained weights below a checkpoint that holds a mask decoder alone, if they are not where
            it says
        device: auto, cpu, cuda, cuda:1 or mps; auto prefers a GPU
        yes: download what is not in the local cache without asking
        quiet: show no progress bar
    """

    detections: Path = option(metavar="DETECTIONS", positional=True)
    images: Path = option(metavar="DIR")
    out: Path = option(metavar="FILE")
    model: str = option(DEFAULT_MODEL, metavar="NAME")
    base: Path | None = option(None, metavar="DIR", read=Path)
    device: str = option("auto", metavar="NAME")
    yes: bool = option(False)
    quiet: bool = option(False, short="-q")


def add_arguments(parser: CommandParser) -> None:
    """Declare the command line.

    Args:
        parser: parser of this subcommand.
    """
    add_options(parser, Refinement)


def run(args: Namespace) -> None:
    """Refine the detections and print how many there are.

    Args:
        args: what :func:`add_arguments` declares.

    Raises:
        InputError: if an input is wrong, FILE exists, or the checkpoint cannot be loaded.
    """
    chosen = read_options(Refinement, args)
    quieten_libraries(quiet=chosen.quiet)
    from tqdm import tqdm

    from amodal_diffusion.pipelines.refinement import check_refinement, open_sameo, refine_images

    found = check_refinement(chosen.detections, chosen.images, chosen.out)
    segmenter = open_sameo(chosen.model, base=chosen.base, device=chosen.device, yes=chosen.yes)
    with tqdm(total=len(found), desc="images", unit="image", disable=chosen.quiet) as bar:
        count = refine_images(found, chosen.out, segmenter, progress=lambda done, _: bar.update(done - bar.n))
    print(f"{chosen.out}: {count} results in {len(found)} images")
