"""`amodal-diffusion configs`: copy the YAML files of the training runs and launches that ship with the package."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from jsonargparse import Namespace

from amodal_diffusion.basics import InputError
from amodal_diffusion.options import add_options, option, read_options
from amodal_diffusion.parsing import CommandParser, shipped_configs

SUMMARY = "copy the YAML files of the training runs and launches that ship with the package"


@dataclass(frozen=True)
class Folder:
    """Output.

    Attributes:
        out: new or empty folder; the guides call it `configs`
    """

    out: Path = option(metavar="OUT", positional=True)


def add_arguments(parser: CommandParser) -> None:
    """Declare the command line.

    Args:
        parser: parser of this subcommand.
    """
    add_options(parser, Folder)


def run(args: Namespace) -> None:
    """Write the files and print their paths.

    Args:
        args: what :func:`add_arguments` declares.

    Raises:
        InputError: if OUT is a file or not empty.
    """
    out = read_options(Folder, args).out
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"OUT: expected a new or empty folder, got {out}, which is not empty; name another")
    shutil.copytree(shipped_configs(), out, dirs_exist_ok=True)
    print(*sorted(out.rglob("*.yaml")), sep="\n")
