"""`amodal-diffusion app`: a local web page that completes clips."""

from __future__ import annotations

import os
from collections.abc import MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from jsonargparse import Namespace
from jsonargparse.typing import PositiveFloat, PositiveInt

from amodal_diffusion.completion.request import ModelChoice
from amodal_diffusion.config import Preset
from amodal_diffusion.options import add_help, add_options, option, read_options
from amodal_diffusion.parsing import CommandParser

if TYPE_CHECKING:
    from amodal_diffusion.app.server import Policy

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
        auth_file: text file with a line user:password for each user; the environment variable AMODAL_AUTH may hold
            such lines instead
        allowed_hosts: names, with commas, by which browsers may reach the page, such as through a proxy
        max_seconds: longest duration of a clip
        max_megapixels: largest size of a frame
        max_sessions: largest number of pages open at the same time
        session_minutes: time without use after which a page is closed and its files are removed
        session_quota: disk space of one visitor's files in MiB
        total_quota: disk space of all visitors' files in MiB
    """

    host: str = option("127.0.0.1", metavar="ADDRESS")
    port: PositiveInt = option(7860, metavar="N")
    segmenter: str | None = option(None, metavar="NAME")
    preset: Preset | None = option(None, choices=get_args(Preset))
    max_upload: PositiveInt = option(500, metavar="MIB")
    max_frames: PositiveInt = option(900, metavar="N")
    auth_file: Path | None = option(None, metavar="FILE", read=Path)
    allowed_hosts: str | None = option(None, metavar="NAMES", advanced=True)
    max_seconds: PositiveInt = option(600, metavar="S", advanced=True)
    max_megapixels: PositiveFloat = option(9.0, metavar="N", advanced=True)
    max_sessions: PositiveInt = option(50, metavar="N", advanced=True)
    session_minutes: PositiveFloat = option(60.0, metavar="N", advanced=True)
    session_quota: PositiveInt = option(4000, metavar="MIB", advanced=True)
    total_quota: PositiveInt = option(20000, metavar="MIB", advanced=True)

    def policy(self, environment: MutableMapping[str, str]) -> Policy:
        """What visitors may do.

        Args:
            environment: the process's; the passwords in it are removed.

        Raises:
            InputError: if names and passwords cannot be read.
        """
        from amodal_diffusion.app.logins import read_logins
        from amodal_diffusion.app.materials import Limits
        from amodal_diffusion.app.server import Policy
        from amodal_diffusion.app.sessions import MIB, Quota

        hosts = None
        if self.allowed_hosts is not None:
            hosts = frozenset(name.strip().lower() for name in self.allowed_hosts.split(","))
        quota = Quota(
            sessions=self.max_sessions,
            session_bytes=self.session_quota * MIB,
            total_bytes=self.total_quota * MIB,
            idle_seconds=self.session_minutes * 60,
        )
        limits = Limits(self.max_upload, self.max_frames, int(self.max_megapixels * 1e6), self.max_seconds)
        return Policy(limits, quota, read_logins(self.auth_file, environment), hosts)


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
    from amodal_diffusion.app.server import Address, serving, wait
    from amodal_diffusion.completion.segmentation import open_segmenter

    page, model = read_options(Page, args), read_options(ModelChoice, args)
    address, policy = Address(page.host, page.port), page.policy(os.environ)
    segmenter = open_segmenter(page.segmenter, device=model.device, dtype=model.dtype, quiet=True, yes=model.yes)
    with serving(PageCompleter(model, page.preset), address, policy, segmenter=segmenter) as url:
        print(f"{url}\nCtrl-C ends it", flush=True)
        wait()
