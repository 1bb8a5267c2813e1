"""What a worker does with a clip of a list, whichever engine runs it: make its inputs local, complete it, record it."""

from __future__ import annotations

import logging
import os
import re
import socket
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Literal

from amodal_diffusion.basics import InputError, one_line
from amodal_diffusion.completion.clip import complete_clip
from amodal_diffusion.completion.memory import out_of_memory_explained
from amodal_diffusion.completion.networks import Networks, Places
from amodal_diffusion.completion.request import CompletionRequest
from amodal_diffusion.completion.storage_options import StorageOptions
from amodal_diffusion.completion.stored_clips import ClipFiles, ClipStorage, without_secrets
from amodal_diffusion.data.clip_list import ClipEntry
from amodal_diffusion.io.manifest import InputRecord, InUseError
from amodal_diffusion.io.result_folder import holds_results
from amodal_diffusion.io.urls import public_name

_DEVICE_ERROR = re.compile("CUDA error|cuDNN error|CUDNN_STATUS|CUBLAS_STATUS|NCCL error|device-side assert")


@dataclass(frozen=True)
class ClipRecord:
    """What became of a clip.

    Attributes:
        name: name of its result folder.
        clip: path of the clip, as the list gives it; its URL without user name, password and query.
        status: ``completed`` by this run, ``finished before`` or ``failed``.
        frames: number of frames of all its objects; 0 unless this run completed it.
        seconds: that a worker took.
        worker: machine and process that computed it, such as ``node-3/4711``; empty where that process died.
        error: error message on one line; None unless it failed.
        trace: traceback, for a bug report; None if the inputs are wrong.
        trouble: why the clip may succeed elsewhere: ``in use`` by another process, or the ``device`` is out of order.
        notices: warnings about the clip.
    """

    name: str
    clip: str
    status: Literal["completed", "finished before", "failed"]
    frames: int = 0
    seconds: float = 0.0
    worker: str = ""
    error: str | None = None
    trace: str | None = None
    trouble: Literal["in use", "device"] | None = None
    notices: tuple[str, ...] = ()

    @property
    def failure(self) -> dict[str, str | None]:
        """Its entry in ``failures.json``."""
        values = asdict(self)
        return {name: values[name] for name in ("name", "clip", "error", "trace")}


def failed(
    entry: ClipEntry, error: str, *, trace: str | None = None, names: Mapping[str, str] | None = None
) -> ClipRecord:
    """The record of a clip that failed.

    Args:
        entry: line of the list.
        error: message.
        trace: traceback.
        names: what copied inputs are called, by their local path.
    """
    line = without_secrets(" ".join(error.split()), entry, names or {})
    if trace is not None:
        trace = without_secrets(trace, entry, names or {})
    return ClipRecord(entry.name, public_name(entry.clip), "failed", error=line, trace=trace)


@dataclass(frozen=True)
class LocalClip:
    """A clip whose input files are on this machine.

    Attributes:
        request: completes it.
        records: input files that its results depend on.
        files: local paths of its inputs; None if its results are there already.
    """

    request: CompletionRequest
    records: Mapping[str, InputRecord]
    files: ClipFiles | None

    def release(self) -> None:
        """Remove the copies of its inputs."""
        if self.files is not None:
            self.files.release()


class ClipWorker:
    """Completes clips one by one with networks that are loaded once."""

    def __init__(
        self,
        base: CompletionRequest,
        network_inputs: Mapping[str, InputRecord],
        *,
        threads: int | None,
        storage: StorageOptions,
    ) -> None:
        """Remember the settings; nothing is loaded yet.

        Args:
            base: settings that all clips share; ``output.out`` is the parent of their result folders.
            network_inputs: records of the networks' folders on the machine that began the run. They stand for the
                folders of other machines, which have the same weights under other paths or dates.
            threads: of torch; None leaves their number as it is.
            storage: limits of transfers.
        """
        self._base, self._network_inputs, self._threads = base, network_inputs, threads
        self._networks: Networks | None = None
        self._storage = ClipStorage(base, storage)

    def load(self, *, device: str | None = None, places: Places | None = None) -> None:
        """Load the networks.

        Args:
            device: in place of ``auto``. Results do not depend on its number, so that it is not among their settings.
            places: folders of the networks, where they were looked up before.

        Raises:
            InputError: if a network cannot be loaded, or a setting does not fit it.
        """
        self._set_threads()
        base, model = self._base, self._base.model
        if device is not None and model.device == "auto":
            base = replace(base, model=replace(model, device=device))
        with out_of_memory_explained(base):
            self._networks = Networks(base, places)

    def fetch(self, entry: ClipEntry, on_progress: Callable[[], None] | None = None) -> LocalClip:
        """Make the inputs of a clip local: the one place where files of a list's line are looked up.

        Args:
            entry: line of the list.
            on_progress: called when a part of a copy has arrived.

        Raises:
            InputError: if a file is missing or cannot be copied.
        """
        named = self._request(entry, ClipFiles.named(entry))
        if self._storage.is_finished(entry, named.settings()):
            return LocalClip(named, {}, None)
        files = self._storage.fetch(entry, on_progress)
        try:
            request = self._request(entry, files)
            request.source.check_paths()
            found = request.inputs() | files.records_of(entry)
        except BaseException as error:
            files.release()
            if isinstance(error, OSError):
                raise InputError(one_line(error)) from error
            raise
        records = {name: self._network_inputs.get(name, record) for name, record in found.items()}
        return LocalClip(request, records, files)

    def _request(self, entry: ClipEntry, files: ClipFiles) -> CompletionRequest:
        """What completes a clip whose inputs have local paths."""
        base = self._base
        clip, masks = files.paths[entry.clip], files.paths[entry.masks]
        request = replace(
            base,
            source=replace(base.source, clip=clip, masks=masks, object=entry.object_name),
            output=replace(base.output, out=self._storage.result_folder(entry.name)),
            copied_from=files.names,
        )
        if entry.depth is None or entry.depth == base.depth.depth:
            return request
        depth = entry.depth if entry.depth_location is None else str(files.paths[entry.depth_location])
        return replace(request, depth=replace(base.depth, depth=depth, depth_model=None))

    def complete(
        self,
        entry: ClipEntry,
        clip: Callable[[], LocalClip] | None = None,
        on_progress: Callable[[], None] | None = None,
    ) -> ClipRecord:
        """Complete a clip unless its results exist.

        Args:
            entry: line of the list.
            clip: gives what :meth:`fetch` returned for it, where that was called ahead of time.
            on_progress: called after each frame, before each pass of a network, and after each part of a transfer.
        """
        self._set_threads()
        started = time.perf_counter()
        local: LocalClip | None = None
        names: Mapping[str, str] = {}
        try:
            with _kept_notices() as notices:
                local = (clip or (lambda: self.fetch(entry, on_progress)))()
                names = local.request.copied_from
                status, frames = self._complete(entry, local, on_progress)
            record = ClipRecord(entry.name, public_name(entry.clip), status, frames)
        except InUseError as error:
            told = f"{error}, then run the same command again, which completes this clip"
            record = replace(failed(entry, told, names=names), trouble="in use")
        except InputError as error:
            record = failed(entry, str(error), names=names)
        except Exception as error:  # noqa: BLE001  # an error in one clip must not stop the others
            record = failed(entry, f"{type(error).__name__}: {error}", trace=traceback.format_exc(), names=names)
            if _DEVICE_ERROR.search(str(error)):  # out of memory is an InputError here
                record = replace(record, trouble="device")
        finally:
            if local is not None:
                local.release()
        worker = f"{socket.gethostname()}/{os.getpid()}"
        kept = tuple(without_secrets(" ".join(notice.split()), entry, names) for notice in notices)
        return replace(record, seconds=round(time.perf_counter() - started, 3), worker=worker, notices=kept)

    def close(self) -> None:
        """Remove the folder for copies of inputs."""
        self._storage.close()

    def _complete(
        self, entry: ClipEntry, clip: LocalClip, on_progress: Callable[[], None] | None
    ) -> tuple[Literal["completed", "finished before"], int]:
        request, out = clip.request, clip.request.out
        if clip.files is None:
            return "finished before", 0
        if out.is_dir() and holds_results(out, inputs=clip.records, settings=request.settings()):
            return "finished before", 0
        if self._networks is None:
            self.load()
        assert self._networks is not None
        frames = 0

        def notify(step: str, _: int, total: int) -> None:
            nonlocal frames
            if step == "candidates":
                frames = total
            if on_progress is not None:
                on_progress()

        watched = self._networks.completer.watched(lambda _: notify("step", 0, 0))
        with self._storage.publishing(entry, out, on_progress), watched:
            complete_clip(request, networks=self._networks, records=lambda: clip.records, on_progress=notify)
        return "completed", frames

    def _set_threads(self) -> None:
        """Set the number of threads, which belongs to the thread that computes."""
        if self._threads is not None:
            import torch

            torch.set_num_threads(self._threads)


@contextmanager
def _kept_notices() -> Iterator[list[str]]:
    """What the package warns of, which is for the record of a clip and goes nowhere else."""
    found: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.append(record.getMessage())

    logger = logging.getLogger("amodal_diffusion")
    handlers, propagate = logger.handlers, logger.propagate
    logger.handlers, logger.propagate = [Keep(logging.WARNING)], False
    try:
        yield found
    finally:
        logger.handlers, logger.propagate = handlers, propagate
