"""The work of `batch`: the clips of a list, in one process or shared by those of a launch, and what comes of them."""

from __future__ import annotations

import json
import logging
import sys
import traceback
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from amodal_diffusion.completion.clip import complete_clip
from amodal_diffusion.completion.networks import Networks
from amodal_diffusion.completion.request import CompletionRequest
from amodal_diffusion.data.clip_list import ClipEntry, read_clip_list
from amodal_diffusion.io.atomic import write_text
from amodal_diffusion.io.result_folder import holds_results
from amodal_diffusion.models.libraries import quieten_libraries
from amodal_diffusion.types import InputError

if TYPE_CHECKING:
    from amodal_diffusion.evaluation.processes import Processes

FAILURES = "failures.json"
SOME_FAILED, FAILED = 1, 2

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Failure:
    """A clip that could not be completed.

    Attributes:
        name: of its results.
        clip: its path.
        error: what went wrong, on one line.
        trace: where in the program, for a report; None where the inputs are to blame.
    """

    name: str
    clip: str
    error: str
    trace: str | None = None


@dataclass
class Tally:
    """What came of the clips of one process.

    Attributes:
        completed: clips that are complete now.
        skipped: clips that had been complete before.
        failures: the others.
    """

    completed: int = 0
    skipped: int = 0
    failures: list[Failure] = field(default_factory=list)


def complete_list(path: Path, base: CompletionRequest) -> int:
    """Complete all clips of a list that are not finished, and list those that fail.

    In a launch every process calls this, and the processes share the clips.

    Args:
        path: the list, see :func:`~amodal_diffusion.data.clip_list.read_clip_list`.
        base: what the clips have in common; ``output.out`` holds the folder of each.

    Returns:
        exit status: 0; 1 if a clip failed; 2 in a launch in which the options, the list or a model are wrong.

    Raises:
        InputError: in a process on its own, if an option or the list is wrong or a model cannot be loaded; in a
            launch, the main process says it for all.
    """
    quieten_libraries(quiet=base.output.quiet)
    from amodal_diffusion.evaluation.processes import Processes

    processes = Processes()
    try:
        status = _complete_all(path, base, processes)
    except InputError as error:
        if processes.count == 1:
            raise
        if processes.is_main:
            print(f"error: {' '.join(str(error).split())}", file=sys.stderr, flush=True)
        status = FAILED
    processes.end()
    return status


def _complete_all(path: Path, base: CompletionRequest, processes: Processes) -> int:
    """Read the list and load the networks once, then complete this process's share."""
    from tqdm import tqdm

    quiet, out = base.output.quiet, base.output.out
    base = replace(base, output=replace(base.output, quiet=True))  # one bar for all clips
    entries = processes.main_alone(lambda: _begin(path, base))
    if base.model.device == "auto":
        base = replace(base, model=replace(base.model, device=processes.device))
    networks = processes.together(lambda: Networks(base))
    bar = tqdm(
        processes.share(entries),
        desc="clips" if processes.count == 1 else f"clips, 1 of {processes.count} processes",
        unit="clip",
        disable=quiet or not processes.is_main,
    )
    tallies = processes.gather([complete_share(bar, base, networks)])
    if processes.is_main:
        _report(tallies, out)
    return SOME_FAILED if any(tally.failures for tally in tallies) else 0


def _begin(path: Path, base: CompletionRequest) -> list[ClipEntry]:
    """Read the list and make the folder of the results."""
    if base.depth.depth not in ("auto", "none"):
        raise InputError(
            f"--depth: expected auto or none for all clips, got {base.depth.depth}; the list names depth of its own"
        )
    entries = read_clip_list(path)
    out = base.output.out
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"out: {out}: cannot be made ({error.strerror or error})") from error
    return entries


def complete_share(entries: Iterable[ClipEntry], base: CompletionRequest, networks: Networks) -> Tally:
    """Complete clips one after the other, whatever becomes of the one before.

    Args:
        entries: the clips.
        base: what they have in common; ``output.out`` holds the folder of each.
        networks: loaded for ``base``.
    """
    tally = Tally()
    for entry in entries:
        try:
            if _complete(_request(entry, base), networks):
                tally.completed += 1
            else:
                tally.skipped += 1
        except InputError as error:
            _note(tally, entry, str(error))
        except Exception as error:  # noqa: BLE001  # of whatever kind: the other clips are as good as before
            _note(tally, entry, f"{type(error).__name__}: {error}", trace=traceback.format_exc())
    return tally


def _complete(request: CompletionRequest, networks: Networks) -> bool:
    """Complete a clip unless its results are there; whether there was anything to do."""
    out = request.output.out
    if out.is_dir() and holds_results(out, inputs=request.inputs(), settings=request.settings()):
        return False
    complete_clip(request, networks=networks)
    return True


def _request(entry: ClipEntry, base: CompletionRequest) -> CompletionRequest:
    request = replace(
        base,
        source=replace(base.source, clip=entry.clip, masks=entry.masks, object=entry.object_name),
        output=replace(base.output, out=base.output.out / entry.name),
    )
    if entry.depth is None or entry.depth == base.depth.depth:
        return request
    return replace(request, depth=replace(base.depth, depth=entry.depth, depth_model=None))  # which estimates nothing


def _note(tally: Tally, entry: ClipEntry, error: str, *, trace: str | None = None) -> None:
    line = " ".join(error.split())
    tally.failures.append(Failure(entry.name, str(entry.clip), line, trace))
    logger.warning("%s: failed: %s", entry.name, line)


def _report(tallies: list[Tally], out: Path) -> None:
    """Say what came of all clips, and list those that failed in a file."""
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
