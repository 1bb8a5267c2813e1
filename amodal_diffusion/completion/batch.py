"""The work of `batch`: the share of a list of clips that one process completes, and what comes of it."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from amodal_diffusion.completion.clip import complete_clip
from amodal_diffusion.completion.networks import Networks
from amodal_diffusion.completion.request import CompletionRequest
from amodal_diffusion.data.clip_list import ClipEntry
from amodal_diffusion.io.result_folder import holds_results
from amodal_diffusion.types import InputError

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
        completed: clips that are now.
        skipped: clips that had been before.
        failures: the others.
    """

    completed: int = 0
    skipped: int = 0
    failures: list[Failure] = field(default_factory=list)


def complete_share(entries: Iterable[ClipEntry], base: CompletionRequest, networks: Networks) -> Tally:
    """Complete clips one after the other, whatever becomes of the one before.

    Args:
        entries: the clips.
        base: what they have in common; its ``out`` holds the folder of each.
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
    if request.out.is_dir() and holds_results(request.out, inputs=request.inputs(), settings=request.settings()):
        return False
    complete_clip(request, networks=networks)
    return True


def _request(entry: ClipEntry, base: CompletionRequest) -> CompletionRequest:
    request = replace(
        base, clip=entry.clip, masks=entry.masks, out=base.out / entry.name, object_name=entry.object_name
    )
    if entry.depth is None or entry.depth == base.depth:
        return request
    return replace(request, depth=entry.depth, depth_model=None)  # which estimates nothing here


def _note(tally: Tally, entry: ClipEntry, error: str, *, trace: str | None = None) -> None:
    line = " ".join(error.split())
    tally.failures.append(Failure(entry.name, str(entry.clip), line, trace))
    logger.warning("%s: failed: %s", entry.name, line)
