"""`amodal-diffusion download`: get a model from the Hugging Face Hub, for machines without internet too."""

from __future__ import annotations

from jsonargparse import Namespace

from amodal_diffusion.completion.download import DownloadRequest, download
from amodal_diffusion.options import add_options, read_options
from amodal_diffusion.parsing import CommandParser

SUMMARY = "download a model from the Hugging Face Hub, also into a folder for machines without internet"


def add_arguments(parser: CommandParser) -> None:
    """Declare the command line.

    Args:
        parser: parser of this subcommand.
    """
    add_options(parser, DownloadRequest)


def run(args: Namespace) -> None:
    """Download the files and print their folders.

    Args:
        args: what :func:`add_arguments` declares.

    Raises:
        InputError: if the files cannot or may not be downloaded.
    """
    for folder in download(read_options(DownloadRequest, args)):
        print(folder)
