"""What a worker does with a clip of a list, whichever engine runs it: make its inputs local, complete it, record it."""

from __future__ import annotations

import os
import re
import socket
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Literal

from amodal_diffusion.completion.clip import complete_clip
from amodal_diffusion.completion.memory import out_of_memory_explained
from amodal_diffusion.completion.networks import Networks, Places
from amodal_diffusion.completion.request import CompletionRequest
from amodal_diffusion.data.clip_list import ClipEntry
from amodal_diffusion.io.manifest import InputRecord, InUseError
from amodal_diffusion.io.result_folder import holds_results
from amodal_diffusion.types import InputError, one_line

_DEVICE_ERROR = re.compile("CUDA error|cuDNN error|CUDNN_STATUS|CUBLAS_STATUS|NCCL error|device-side assert")


@dataclass(frozen=True)
class ClipRecord:
    """What became of a clip.

    Attributes:
        name: name of its result folder.
        clip: path of the clip, as the list gives it.
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


def failed(entry: ClipEntry, error: str, *, trace: str | None = None) -> ClipRecord:
    """The record of a clip that failed."""
    return ClipRecord(entry.name, str(entry.clip), "failed", error=" ".join(error.split()), trace=trace)


@dataclass(frozen=True)
class LocalClip:
    """A clip whose input files are on this machine.

    Attributes:
        request: completes it.
        records: input files that its results depend on.
    """

    request: CompletionRequest
    records: Mapping[str, InputRecord]


class ClipWorker:
    """Completes clips one by one with networks that are loaded once."""

    def __init__(
        self, base: CompletionRequest, network_inputs: Mapping[str, InputRecord], *, threads: int | None
    ) -> None:
        """Remember the settings; nothing is loaded yet.

        Args:
            base: settings that all clips share; ``output.out`` is the parent of their result folders.
            network_inputs: records of the networks' folders on the machine that began the run. They stand for the
                folders of other machines, which have the same weights under other paths or dates.
            threads: of torch; None leaves their number as it is.
        """
        self._base, self._network_inputs, self._threads = base, network_inputs, threads
        self._networks: Networks | None = None

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

    def fetch(self, entry: ClipEntry) -> LocalClip:
        """Make the inputs of a clip local: the one place where files of a list's line are looked up.

        Args:
            entry: line of the list.

        Raises:
            InputError: if a file is missing.
        """
        base = self._base
        assert base.output.out is not None  # checked when the run begins
        request = replace(
            base,
            source=replace(base.source, clip=entry.clip, masks=entry.masks, object=entry.object_name),
            output=replace(base.output, out=base.output.out / entry.name),
        )
        if entry.depth is not None and entry.depth != base.depth.depth:
            request = replace(request, depth=replace(base.depth, depth=entry.depth, depth_model=None))
        request.source.check_paths()
        try:
            found = request.inputs()
        except OSError as error:
            raise InputError(one_line(error)) from error
        return LocalClip(request, {name: self._network_inputs.get(name, record) for name, record in found.items()})

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
            on_progress: called after each frame and before each pass of a network.
        """
        self._set_threads()
        started = time.perf_counter()
        try:
            status, frames = self._complete((clip or (lambda: self.fetch(entry)))(), on_progress)
            record = ClipRecord(entry.name, str(entry.clip), status, frames)
        except InUseError as error:
            record = replace(failed(entry, str(error)), trouble="in use")
        except InputError as error:
            record = failed(entry, str(error))
        except Exception as error:  # noqa: BLE001  # an error in one clip must not stop the others
            record = failed(entry, f"{type(error).__name__}: {error}", trace=traceback.format_exc())
            if _DEVICE_ERROR.search(str(error)):  # out of memory is an InputError here
                record = replace(record, trouble="device")
        worker = f"{socket.gethostname()}/{os.getpid()}"
        return replace(record, seconds=round(time.perf_counter() - started, 3), worker=worker)

    def _complete(
        self, clip: LocalClip, on_progress: Callable[[], None] | None
    ) -> tuple[Literal["completed", "finished before"], int]:
        request, out = clip.request, clip.request.out
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

        with self._networks.completer.watched(lambda _: notify("step", 0, 0)):
            complete_clip(request, networks=self._networks, records=lambda: clip.records, on_progress=notify)
        return "completed", frames

    def _set_threads(self) -> None:
        """Set the number of threads, which belongs to the thread that computes."""
        if self._threads is not None:
            import torch

            torch.set_num_threads(self._threads)
