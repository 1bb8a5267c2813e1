"""Implementation of `batch`: complete all clips of a list, in one process or distributed over several."""

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
from amodal_diffusion.completion.memory import out_of_memory_explained
from amodal_diffusion.completion.networks import Networks, Places
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
        name: name of its result folder.
        clip: path of the clip.
        error: error message, on one line.
        trace: traceback, for a bug report; None if the inputs are wrong.
    """

    name: str
    clip: str
    error: str
    trace: str | None = None


@dataclass
class Tally:
    """Outcome of the clips of one process.

    Attributes:
        completed: number of clips that this run completed.
        skipped: number of clips that an earlier run had completed.
        failures: clips that failed.
    """

    completed: int = 0
    skipped: int = 0
    failures: list[Failure] = field(default_factory=list)


def complete_list(path: Path, base: CompletionRequest) -> int:
    """Complete all clips of a list that are not finished, and report those that fail.

    In a distributed launch, every process calls this function, and each completes its share of the clips.

    Args:
        path: clip list, see :func:`~amodal_diffusion.data.clip_list.read_clip_list`.
        base: settings that all clips share; ``output.out`` is the parent of their result folders.

    Returns:
        exit status: 0 on success; 1 if a clip failed; 2 in a distributed launch if an option, the list or a model is
        wrong.

    Raises:
        InputError: in a single process, if an option or the list is wrong or a model cannot be loaded. In a
            distributed launch, the main process prints the error instead.
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
    """Read the list, load the networks once, and complete this process's share of the clips."""
    from tqdm import tqdm

    quiet, out = base.output.quiet, _parent(base)
    base = replace(base, output=replace(base.output, quiet=True))  # one progress bar for all clips
    entries = processes.main_alone(lambda: _begin(path, base))
    if base.model.device == "auto":
        base = replace(base, model=replace(base.model, device=processes.device))
    if processes.count > 1:
        processes.main_alone(lambda: Places(base).stages)  # one process asks and downloads
    networks = processes.together(lambda: _load(base))
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


def _parent(base: CompletionRequest) -> Path:
    """Folder of all result folders."""
    if base.output.out is None:
        raise InputError("--out: expected a folder for the results of all clips; give --out DIR")
    return base.output.out


def _load(base: CompletionRequest) -> Networks:
    with out_of_memory_explained(base):
        return Networks(base)


def _begin(path: Path, base: CompletionRequest) -> list[ClipEntry]:
    """Read the list and create the parent of the result folders."""
    if base.depth.depth not in ("auto", "none"):
        raise InputError(
            f"--depth: expected auto or none for all clips, got {base.depth.depth}; name depth files in the list"
        )
    entries = read_clip_list(path)
    out = _parent(base)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"out: {out}: cannot be created ({error.strerror or error})") from error
    return entries


def complete_share(entries: Iterable[ClipEntry], base: CompletionRequest, networks: Networks) -> Tally:
    """Complete clips one by one; a clip that fails does not stop the others.

    Args:
        entries: the clips.
        base: settings that all clips share; ``output.out`` is the parent of their result folders.
        networks: networks loaded for ``base``.
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
        except Exception as error:  # noqa: BLE001  # an error in one clip must not stop the others
            _note(tally, entry, f"{type(error).__name__}: {error}", trace=traceback.format_exc())
    return tally


def _complete(request: CompletionRequest, networks: Networks) -> bool:
    """Complete a clip unless its results exist; return whether it was completed now."""
    out = request.out
    if out.is_dir() and holds_results(out, inputs=request.inputs(), settings=request.settings()):
        return False
    complete_clip(request, networks=networks)
    return True


def _request(entry: ClipEntry, base: CompletionRequest) -> CompletionRequest:
    request = replace(
        base,
        source=replace(base.source, clip=entry.clip, masks=entry.masks, object=entry.object_name),
        output=replace(base.output, out=_parent(base) / entry.name),
    )
    if entry.depth is None or entry.depth == base.depth.depth:
        return request
    return replace(request, depth=replace(base.depth, depth=entry.depth, depth_model=None))  # nothing to estimate


def _note(tally: Tally, entry: ClipEntry, error: str, *, trace: str | None = None) -> None:
    line = " ".join(error.split())
    tally.failures.append(Failure(entry.name, str(entry.clip), line, trace))
    logger.warning("%s: failed: %s", entry.name, line)


def _report(tallies: list[Tally], out: Path) -> None:
    """Print the outcome of all clips, and write the failures to a file."""
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
