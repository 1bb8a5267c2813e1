"""A batch: all clips of a list, in this process, in an accelerate launch or on Ray."""

from __future__ import annotations

import difflib
import logging
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from amodal_diffusion.basics import InputError, one_line
from amodal_diffusion.completion.clip_queue import ClipQueue, in_order
from amodal_diffusion.completion.clip_work import ClipRecord, ClipWorker
from amodal_diffusion.completion.networks import Places
from amodal_diffusion.completion.request import GROUPS, CompletionRequest, Source
from amodal_diffusion.completion.run_options import Engine, RunOptions
from amodal_diffusion.completion.run_record import RunClaim, RunIdentity, TakenOverError, claimed, run_file
from amodal_diffusion.completion.storage_options import StorageOptions, read_location, read_out
from amodal_diffusion.completion.stored_clips import LookedUp
from amodal_diffusion.completion.tally import StoppedError, Tally, write_failures
from amodal_diffusion.config import check_seed
from amodal_diffusion.data.clip_list import ClipEntry, Row, read_clip_list
from amodal_diffusion.io.urls import Location, local_path, public_name
from amodal_diffusion.models.libraries import quieten_libraries

if TYPE_CHECKING:
    from amodal_diffusion.evaluation.processes import Processes

SOME_FAILED, FAILED = 1, 2
OWN_GROUPS = {name: group for name, group in GROUPS.items() if name not in ("source", "clicks")}
"""Groups of options of `complete` that a batch has too, by their field in the request."""

logger = logging.getLogger(__name__)


class LostProcessError(InputError):
    """This process cannot go on, such as without its device; the other processes of its launch do not know."""


@dataclass(frozen=True)
class Batch:
    """A batch that may begin: its list was read, and the folder of its results belongs to it.

    Attributes:
        clips: the list.
        base: settings that all clips share; ``output.out`` is the parent of their result folders.
        options: who works, and when to stop.
        claim: of the folder; None in all processes of a launch but the main one.
        tally: outcome so far.
        records: computes the clips, and gives the record of each when it ends.
        workers: number of workers.
    """

    clips: LookedUp
    base: CompletionRequest
    options: RunOptions
    claim: RunClaim | None
    tally: Tally
    records: Iterator[ClipRecord]
    workers: int

    def run(self) -> Iterator[ClipRecord]:
        """Compute all clips that are not finished; gives the record of each clip when it ends.

        Raises:
            StoppedError: if too many failed.
            LostProcessError: if the device of this process computes no more.
            InputError: if another run has taken over, or no worker can work.
        """
        for record in self.records:
            self.tally.add(record)
            if self.claim is not None:
                self.claim.binds |= record.status != "failed"
                self.claim.check()
            for notice in record.notices:
                logger.warning("%s: %s", record.name, notice)
            if record.error is not None:
                logger.warning("%s: failed: %s", record.name, record.error)
            yield record
            self.tally.check(self.options.max_failures)


@contextmanager
def opened_batch(
    source: Location | tuple[Row, ...],
    base: CompletionRequest,
    options: RunOptions,
    storage: StorageOptions,
    processes: Processes | None,
) -> Iterator[Batch]:
    """Read the list, own the folder of the results, and have the networks loaded.

    Args:
        source: path or URL of the list, or its rows.
        base: settings that all clips share.
        options: who works.
        storage: limits of transfers.
        processes: of this launch; None on Ray.

    Raises:
        InputError: if an option or the list is wrong, a model cannot be loaded, the folder belongs to another run, or
            Ray cannot be reached.
    """
    base = replace(base, output=replace(base.output, quiet=True))  # one progress bar for all clips
    with ExitStack() as stack:
        if processes is None:
            yield _on_ray(source, base, options, storage, stack)
        else:
            yield _in_launch(source, base, options, storage, processes, stack)


def _on_ray(
    source: Location | tuple[Row, ...],
    base: CompletionRequest,
    options: RunOptions,
    storage: StorageOptions,
    stack: ExitStack,
) -> Batch:
    """A batch on Ray, which this process drives; arguments as for :func:`opened_batch`, whose context is ``stack``."""
    from amodal_diffusion.completion.ray_engine import connected, run_on_ray

    clips = _begin(source, base, storage)
    cluster = stack.enter_context(connected(base, options))
    places = Places(base)
    claim = stack.enter_context(_claimed(base, options, places))
    records = stack.enter_context(run_on_ray(ClipQueue(clips), base, cluster, places, storage, claim.marker))
    return Batch(clips, base, options, claim, Tally(), records, cluster.workers)


def _in_launch(
    source: Location | tuple[Row, ...],
    base: CompletionRequest,
    options: RunOptions,
    storage: StorageOptions,
    processes: Processes,
    stack: ExitStack,
) -> Batch:
    """A batch in this process or launch; arguments as for :func:`opened_batch`, whose context is ``stack``."""
    clips = processes.main_alone(lambda: _begin(source, base, storage))
    places = processes.together(lambda: Places(base) if processes.is_main else None)  # it alone asks and downloads
    claim = processes.together(lambda: None if places is None else stack.enter_context(_claimed(base, options, places)))
    threads = options.cores_per_worker or (1 if processes.count > 1 else None)
    worker = ClipWorker(base, processes.main_alone(base.network_inputs), threads=threads, storage=storage)
    stack.callback(worker.close)
    processes.together(lambda: worker.load(device=processes.device, places=places))
    if processes.count == 1:
        return Batch(clips, base, options, claim, Tally(), _computed(in_order(clips), worker), 1)
    from amodal_diffusion.completion.launch_engine import SharedTally, next_clips, open_store

    store = open_store(processes)
    records = _computed(next_clips(clips.clips, store), worker)
    return Batch(clips, base, options, claim, SharedTally(store), records, processes.count)


def _computed(entries: Iterable[ClipEntry], worker: ClipWorker) -> Iterator[ClipRecord]:
    """Compute clips in this process."""
    for entry in entries:
        record = worker.complete(entry)
        if record.trouble == "device":
            raise LostProcessError(f"{record.name}: {record.error}; the device fails, and the same command goes on")
        yield record


def _begin(source: Location | tuple[Row, ...], base: CompletionRequest, storage: StorageOptions) -> LookedUp:
    """Read the list and create the parent of the result folders."""
    if base.depth.depth not in ("auto", "none"):
        got = public_name(base.depth.depth)
        raise InputError(f"--depth: expected auto or none for all clips, got {got}; name depth files in the list")
    clips = LookedUp(read_clip_list(source, storage.allow_host), base)
    out = local_path(_parent(base))
    try:
        if out is not None:
            out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"out: {out}: cannot be created ({error.strerror or error})") from error
    return clips


def _parent(base: CompletionRequest) -> Location:
    """Folder or bucket of all result folders."""
    if base.output.out is None:
        raise InputError("--out: expected a folder for the results of all clips; give --out DIR")
    return base.output.out


@contextmanager
def _claimed(base: CompletionRequest, options: RunOptions, places: Places) -> Iterator[RunClaim]:
    identity = RunIdentity.of(base, places)
    file, overwrite = run_file(_parent(base)), base.output.overwrite
    with claimed(file, identity, overwrite=overwrite, take_over=options.take_over) as claim:
        yield claim


def complete_list(source: Location, base: CompletionRequest, options: RunOptions, storage: StorageOptions) -> int:
    """Complete all clips of a list that are not finished, and report those that fail.

    In a distributed launch, every process calls this function, and each takes the next clip when it has finished one.

    Args:
        source: path or URL of the clip list, see :func:`~amodal_diffusion.data.clip_list.read_clip_list`.
        base: settings that all clips share; ``output.out`` is the parent of their result folders.
        options: who works, and when to stop.
        storage: limits of transfers.

    Returns:
        exit status: 0 on success; 1 if a clip failed; 2 in a distributed launch if an option, the list or a model is
        wrong.

    Raises:
        InputError: outside of a distributed launch, if an option or the list is wrong, a model cannot be loaded, or
            Ray cannot be reached. In a distributed launch, the main process prints the error instead.
    """
    quieten_libraries(quiet=base.output.quiet)
    options.check()
    processes = _processes(options)
    if processes is None:
        return _complete_all(source, base, options, storage, None)
    try:
        status = _complete_all(source, base, options, storage, processes)
    except LostProcessError as error:
        if processes.count == 1:
            raise
        _say(error)
        sys.exit(FAILED)  # a process that ends so ends the launch, and none waits for it
    except InputError as error:
        if processes.count == 1:
            raise
        if processes.is_main:
            _say(error)
        status = FAILED
    processes.end()
    return status


def _processes(options: RunOptions) -> Processes | None:
    """The processes of this launch; None on Ray."""
    if options.engine == "local":
        from amodal_diffusion.evaluation.processes import Processes

        return Processes()
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise InputError("--engine ray: starts workers of its own; run it without accelerate launch")
    return None


def _complete_all(
    source: Location,
    base: CompletionRequest,
    options: RunOptions,
    storage: StorageOptions,
    processes: Processes | None,
) -> int:
    """Complete the clips with one progress bar; returns the exit status."""
    from tqdm import tqdm

    is_main = processes is None or processes.is_main
    stopped: StoppedError | None = None
    with opened_batch(source, base, options, storage, processes) as batch:
        tally, out = batch.tally, _parent(base)
        bar = tqdm(total=len(batch.clips), desc="clips", unit="clip", disable=base.output.quiet or not is_main)
        try:
            with bar:
                for _ in batch.run():
                    bar.set_postfix({"failed": tally.count("failed"), "frames": tally.count("frames")}, refresh=False)
                    bar.update(tally.done - bar.n)
        except StoppedError as error:
            stopped = error
        except TakenOverError as error:  # `failures.json` is the other run's now
            raise LostProcessError(str(error)) from error
        except BaseException as error:
            if is_main:  # what it knows; the other processes of the launch end like this one
                write_failures(tally.failures, out, ended=False)
            if isinstance(error, InputError):
                raise LostProcessError(str(error)) from error
            raise
        failures = tally.failures if processes is None else processes.gather(tally.failures)
        if is_main:
            listed = write_failures(failures, out, ended=stopped is None)
            _report(batch, failures, listed)
            if stopped is not None:
                _say(stopped)
    return SOME_FAILED if failures or stopped is not None else 0


def _report(batch: Batch, failures: list[ClipRecord], listed: Location | None) -> None:
    """Print the outcome of all clips."""
    tally = batch.tally
    for record in sorted(failures, key=lambda record: record.name):
        print(f"failed: {record.name}: {record.error}", file=sys.stderr)
    print(
        f"{tally.count('completed')} completed, {tally.count('finished before')} finished before, {len(failures)} "
        f"failed; {batch.workers} process(es)\nresults: {public_name(_parent(batch.base))}",
        flush=True,
    )
    if listed is not None:
        print(f"failures: {public_name(listed)}", flush=True)


def _say(error: InputError) -> None:
    text = one_line(error)
    print(text if isinstance(error, StoppedError) else f"error: {text}", file=sys.stderr, flush=True)


def complete_many(
    clips: str | Path | Iterable[Row],
    out: str | Path,
    *,
    engine: Engine | None = None,
    options: Mapping[str, object] | None = None,
    run: RunOptions | None = None,
    storage: StorageOptions | None = None,
) -> Iterator[ClipRecord]:
    """Complete many clips, as the command `batch` does; gives one record for each clip when it ends.

    Options and rows are checked at once. Clips are computed only while records are read, so read all records.

    Args:
        clips: path or URL of a list of clips (docs/data.md, section 7), or rows with its columns, such as
            ``{"clip": "a.mp4", "masks": "a/masks"}``.
        out: parent of the result folders; a path or the URL of a bucket or of a folder in it.
        engine: ``local`` (this process, or all processes of an accelerate launch) or ``ray``; what `run` says when
            None.
        options: options of the command by name, such as ``{"model": "tiny", "stages": "masks"}``.
        run: number of workers, Ray's address, and when to stop.
        storage: hosts and limits for inputs that are given by URL.

    Returns:
        name, clip, status, frames, seconds and error of each clip; in a launch, of those that this process computed.

    Raises:
        InputError: if an option or the list is wrong, a model cannot be loaded, Ray cannot be reached, or too many
            clips failed.
    """
    chosen = run or RunOptions()
    if engine is not None and engine != chosen.engine:
        if run is not None and run.engine != RunOptions().engine:
            raise InputError(f"engine: expected {run.engine} as run says, got {engine}; give one of them")
        chosen = replace(chosen, engine=engine)
    chosen.check()
    base = _request(options or {}, read_out(out))
    source = read_location(clips) if isinstance(clips, str | Path) else _rows(clips)
    return _records(source, base, chosen, storage or StorageOptions())


def _rows(rows: Iterable[Row]) -> tuple[Row, ...]:
    """Rows that a caller gives.

    Raises:
        InputError: if one is no mapping.
    """
    given = tuple(rows)
    wrong = next((row for row in given if not isinstance(row, Mapping)), None)
    if wrong is not None:
        what = type(wrong).__name__
        raise InputError(f"clips: expected rows such as {{'clip': 'a.mp4', 'masks': 'a/masks'}}, got {what}")
    return given


def _records(
    source: Location | tuple[Row, ...], base: CompletionRequest, chosen: RunOptions, storage: StorageOptions
) -> Iterator[ClipRecord]:
    """What `complete_many` gives, as it is read."""
    quieten_libraries(quiet=True)
    processes = _processes(chosen)
    is_main = processes is None or processes.is_main
    with opened_batch(source, base, chosen, storage, processes) as batch:
        try:
            yield from batch.run()
        except TakenOverError:  # `failures.json` is the other run's now
            raise
        except BaseException:
            if is_main:
                write_failures(batch.tally.failures, _parent(base), ended=False)
            raise
        failures = batch.tally.failures if processes is None else processes.gather(batch.tally.failures)
        if is_main:
            write_failures(failures, _parent(base), ended=True)
    if processes is not None:
        processes.end()


def _meant(wrong: str) -> str:
    """What to give in place of an option that there is not."""
    for argument, group in (("run", RunOptions), ("storage", StorageOptions)):
        if wrong in {entry.name for entry in fields(group)}:
            return f"{wrong}: give it as {argument}={group.__name__}({wrong}=...)"
    names = [entry.name for group in OWN_GROUPS.values() for entry in fields(group) if entry.name != "out"]
    nearest = difflib.get_close_matches(wrong, [*names, "cuts", "allow_truncated"], n=1)
    meant = "".join(f"did you mean {name}? " for name in nearest)
    return f"{wrong} is unknown; {meant}`amodal-diffusion batch --help-all` lists them"


def _request(options: Mapping[str, object], out: Location | None) -> CompletionRequest:
    """Settings that all clips share, from options by name."""
    left = dict(options)
    if "out" in left:
        raise InputError("options: out: give the folder as the second argument")
    groups: dict[str, Any] = {}
    chosen: dict[str, type[Any]] = {"source": Source, **OWN_GROUPS}
    for name, group in chosen.items():
        given = {}
        for entry in fields(group):
            if entry.name in left and (name != "source" or entry.name in ("allow_truncated", "cuts")):
                value, how = left.pop(entry.name), entry.metadata
                if how["choices"] and value is not None and value not in how["choices"]:
                    raise InputError(f"options: {entry.name}: expected {', '.join(how['choices'])}, got {value}")
                given[entry.name] = how["read"](value) if how["read"] else value
        groups[name] = given
    if left:
        raise InputError(f"options: {_meant(str(next(iter(left))))}")
    made = {name: OWN_GROUPS[name](**given) for name, given in groups.items() if name != "source"}
    base = CompletionRequest(source=Source(clip=Path(), **groups["source"]), **made)
    check_seed(base.sampling.seed)
    return replace(base, output=replace(base.output, out=out))
