"""`amodal-diffusion app`: a web page that completes clips, for people who do not type."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from jsonargparse.typing import PositiveInt

if TYPE_CHECKING:
    from jsonargparse import Namespace

    from amodal_diffusion.app.sessions import Task
    from amodal_diffusion.config import CommandParser
    from amodal_diffusion.models.checkpoint import Preset
    from amodal_diffusion.types import Stage

SUMMARY = "open a web page that completes clips"


def add_arguments(parser: CommandParser) -> None:
    """Declare the command line.

    Args:
        parser: of this subcommand.
    """
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on; 0.0.0.0: every computer can connect")
    parser.add_argument("--port", metavar="N", type=PositiveInt, default=7860, help="TCP port")
    parser.add_argument("--model", metavar="NAME", default="tiny", help="a bundled name, a folder, or a hub id")
    parser.add_argument("--content-model", metavar="NAME", type=str, default=None, help="for the painting, if another")
    parser.add_argument(
        "--segmenter", metavar="NAME", type=str, default=None, help="for clicks: a plug-in, a folder, or a hub id"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps")
    parser.add_argument("--dtype", default="auto", help="auto, float32, float16, bfloat16")
    parser.add_argument(
        "--preset", choices=["fast", "default", "paper"], default=None, help="how to sample, as of `complete`"
    )
    parser.add_argument("--max-upload", metavar="MB", type=PositiveInt, default=500, help="size of an upload, unpacked")
    parser.add_argument("--max-frames", metavar="N", type=PositiveInt, default=240, help="length of a clip")


def run(args: Namespace) -> None:
    """Load the model and serve the page until the process is told to end.

    Args:
        args: as parsed.

    Raises:
        InputError: if the model cannot be loaded, Gradio is not installed, or the port is taken.
    """
    from amodal_diffusion.app.materials import Limits
    from amodal_diffusion.app.server import Address, serving, wait
    from amodal_diffusion.completion.segmentation import open_segmenter
    from amodal_diffusion.types import InputError

    if not args.port < 2**16:
        raise InputError(f"port: expected 1 to 65535, got {args.port}")
    segmenter = None
    if args.segmenter is not None:
        segmenter = open_segmenter(args.segmenter, device=args.device, dtype=args.dtype, quiet=True)
    completer = CommandCompleter(
        model=args.model,
        content_model=args.content_model,
        device=args.device,
        dtype=args.dtype,
        preset=args.preset,
    )
    limits = Limits(args.max_upload, args.max_frames)
    with serving(completer, Address(args.host, args.port), limits, segmenter=segmenter) as url:
        print(f"{url}\nCtrl-C ends it", flush=True)
        wait()


class CommandCompleter:
    """Completes clips with the code of `amodal-diffusion complete`, with networks that are loaded once."""

    def __init__(
        self, *, model: str, content_model: str | None, device: str, dtype: str, preset: Preset | None = None
    ) -> None:
        """Load the networks.

        Args:
            model: a bundled name, a folder, or a hub id.
            content_model: for the painting, if another.
            device: ``"auto"`` or torch's name.
            dtype: ``"auto"`` or torch's name.
            preset: how to sample; the default when None.

        Raises:
            InputError: if they cannot be loaded.
        """
        from amodal_diffusion.completion.networks import Networks
        from amodal_diffusion.completion.request import CompletionRequest

        self._request = CompletionRequest(
            clip=Path(),
            masks=Path(),
            out=Path(),
            model=model,
            content_model=content_model,
            device=device,
            dtype=dtype,
            preset=preset,
            quiet=True,
        )
        self._networks = Networks(self._request)

    @property
    def description(self) -> str:
        """See `Completer`."""
        return f"{self._request.model} on {self._networks.completer.device}"

    def __call__(self, task: Task, on_step: Callable[[float], None]) -> None:
        """See `Completer`; the share is of the denoising steps, which take nearly all of the time."""
        from amodal_diffusion.completion.clip import complete_clip

        request = replace(
            self._request,
            clip=task.clip,
            masks=task.masks,
            out=task.out,
            depth="auto" if task.depth is None else str(task.depth),
            seed=task.seed,
            samples=task.samples,
        )
        answers = task.samples if self._networks.completer.device == "cpu" else 1  # elsewhere they are one batch
        total = task.num_objects * sum(
            settings.network_passes
            * count_windows(task.num_frames, settings.num_frames)
            * (answers * settings.views if stage == "amodal_segmentation" else 1)
            for stage, settings in self._networks.sampling(request).items()
            if not (settings.copies and settings.painted_share == 0)  # its network is seldom asked
        )
        done = 0

        def count(_: Stage) -> None:
            nonlocal done
            on_step(min(done / total, 1.0))
            done += 1

        with self._networks.completer.watched(count):
            complete_clip(request, networks=self._networks)


def count_windows(num_frames: int, size: int) -> int:
    """How many windows a stage cuts a clip into.

    Args:
        num_frames: of the clip.
        size: of a window.
    """
    fresh = size - size // 4
    return 1 + max(0, -(-(num_frames - size) // fresh))
