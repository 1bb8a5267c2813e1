"""`amodal-diffusion batch`: complete all clips of a list, in one process or shared by those of a launch."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from amodal_diffusion.commands.complete import add_options, build_request

if TYPE_CHECKING:
    from jsonargparse import Namespace

    from amodal_diffusion.completion.batch import Tally
    from amodal_diffusion.completion.request import CompletionRequest
    from amodal_diffusion.config import CommandParser
    from amodal_diffusion.data.clip_list import ClipEntry
    from amodal_diffusion.evaluation.processes import Processes

SUMMARY = "complete all clips of a list, on many processes and machines"
FAILURES = "failures.json"
SOME_FAILED, FAILED = 1, 2


def add_arguments(parser: CommandParser) -> None:
    """Declare the command line.

    Args:
        parser: of this subcommand.
    """
    parser.add_argument(
        "--input", metavar="LIST", type=Path, required=True,
        help="one clip a line: its path, that of its masks, and if wanted of its depth, an object and a name "
        "(.jsonl, .csv or .txt; docs/data.md, section 7)",
    )  # fmt: skip
    parser.add_argument(
        "--out", metavar="DIR", type=Path, required=True, help="holds a folder of results for each clip"
    )
    add_options(parser)


def run(args: Namespace) -> int:
    """Complete what is not finished, list what failed; in each process of a launch, which share the clips.

    Args:
        args: what :func:`add_arguments` declares.

    Returns:
        exit status: 0; 1 if a clip failed.

    Raises:
        InputError: in a process on its own, if an option or the list is wrong or a model cannot be loaded; in a
            launch, the main process says it for all.
    """
    from amodal_diffusion.completion.libraries import quieten_libraries

    quieten_libraries(quiet=args.quiet)

    from amodal_diffusion.evaluation.processes import Processes
    from amodal_diffusion.types import InputError

    processes = Processes()
    try:
        status = _complete_all(args, processes)
    except InputError as error:
        if processes.count == 1:
            raise
        if processes.is_main:
            print(f"error: {' '.join(str(error).split())}", file=sys.stderr, flush=True)
        status = FAILED
    processes.end()
    return status


def _complete_all(args: Namespace, processes: Processes) -> int:
    """Read the list and load the networks once, then complete this process's share."""
    from tqdm import tqdm

    from amodal_diffusion.completion.batch import complete_share
    from amodal_diffusion.completion.networks import Networks

    base = replace(build_request(args, clip=Path(), masks=None), quiet=True)  # one bar for all clips
    entries = processes.main_alone(lambda: _begin(args, base))
    device = processes.device if args.device == "auto" else args.device
    networks = processes.together(lambda: Networks(replace(base, device=device)))
    bar = tqdm(
        processes.share(entries),
        desc="clips" if processes.count == 1 else f"clips, 1 of {processes.count} processes",
        unit="clip",
        disable=args.quiet or not processes.is_main,
    )
    tallies = processes.gather([complete_share(bar, base, networks)])
    if processes.is_main:
        _report(tallies, args.out)
    return SOME_FAILED if any(tally.failures for tally in tallies) else 0


def _begin(args: Namespace, base: CompletionRequest) -> list[ClipEntry]:
    """Read the list and make the folder of the results."""
    from amodal_diffusion.data.clip_list import read_clip_list
    from amodal_diffusion.types import InputError

    if base.depth not in ("auto", "none"):
        raise InputError(
            f"--depth: expected auto or none for all clips, got {base.depth}; the list names depth of its own"
        )
    entries = read_clip_list(args.input)
    try:
        args.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"out: {args.out}: cannot be made ({error.strerror or error})") from error
    return entries


def _report(tallies: list[Tally], out: Path) -> None:
    """Say what came of all clips, and list those that failed in a file."""
    from amodal_diffusion.io.atomic import write_text

    failures = sorted((failure for tally in tallies for failure in tally.failures), key=lambda failure: failure.name)
    for failure in failures:
        print(f"failed: {failure.name}: {failure.error}", file=sys.stderr)
    completed, skipped = (sum(getattr(tally, kind) for tally in tallies) for kind in ("completed", "skipped"))
    print(
        f"{completed} completed, {skipped} finished before, {len(failures)} failed; {len(tallies)} process(es)\n"
        f"results: {out}",
        flush=True,
    )
    if failures:
        write_text(out / FAILURES, json.dumps([asdict(failure) for failure in failures], indent=2) + "\n")
        print(f"failures: {out / FAILURES}", flush=True)
    else:
        (out / FAILURES).unlink(missing_ok=True)
