"""`amodal-diffusion app`: a local web page that completes clips."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

from jsonargparse import Namespace
from jsonargparse.typing import PositiveInt

from amodal_diffusion.completion.request import ModelChoice
from amodal_diffusion.config import CommandParser, Preset
from amodal_diffusion.options import add_help, add_options, option, read_options

SUMMARY = "serve a web page that completes clips"


@dataclass(frozen=True)
class Page:
    """Page.

    Attributes:
        host: address to listen on; 0.0.0.0 accepts connections from other computers
        port: TCP port to listen on
        segmenter: network that predicts masks from clicks: a folder, a Hugging Face Hub ID, or the name of a plug-in
        preset: sampling preset, as for `complete`
        max_upload: largest upload in MiB, before and after unpacking
        max_frames: largest number of frames of a clip
    """

    host: str = option("127.0.0.1", metavar="ADDRESS")
    port: PositiveInt = option(7860, metavar="N")
    segmenter: str | None = option(None, metavar="NAME")
    preset: Preset | None = option(None, choices=get_args(Preset))
    max_upload: PositiveInt = option(500, metavar="MB")
    max_frames: PositiveInt = option(240, metavar="N")


def add_arguments(parser: CommandParser) -> None:
    """Declare the command line.

    Args:
        parser: parser of this subcommand.
    """
    add_options(parser, Page, ModelChoice)
    add_help(parser)


def run(args: Namespace) -> None:
    """Load the model and serve the page until the process is terminated.

    Args:
        args: what :func:`add_arguments` declares.

    Raises:
        InputError: if the model cannot be loaded, Gradio is not installed, or the address cannot be used.
    """
    from amodal_diffusion.app.completer import PageCompleter
    from amodal_diffusion.app.materials import Limits
    from amodal_diffusion.app.server import Address, serving, wait
    from amodal_diffusion.completion.segmentation import open_segmenter

    page, model = read_options(Page, args), read_options(ModelChoice, args)
    address = Address(page.host, page.port)
    segmenter = None
    if page.segmenter is not None:
        segmenter = open_segmenter(page.segmenter, device=model.device, dtype=model.dtype, quiet=True)
    limits = Limits(page.max_upload, page.max_frames)
    with serving(PageCompleter(model, page.preset), address, limits, segmenter=segmenter) as url:
        print(f"{url}\nCtrl-C ends it", flush=True)
        wait()
