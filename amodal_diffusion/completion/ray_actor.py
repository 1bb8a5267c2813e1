"""The worker of the Ray engine: an actor that completes one clip at a time and fetches the inputs of the next."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

from amodal_diffusion.basics import InputError, one_line
from amodal_diffusion.completion.request import CompletionRequest
from amodal_diffusion.completion.run_record import weights_of
from amodal_diffusion.completion.storage_options import StorageOptions
from amodal_diffusion.data.clip_list import ClipEntry
from amodal_diffusion.io.manifest import InputRecord
from amodal_diffusion.io.storage import read_bytes
from amodal_diffusion.io.urls import Location, is_url, public_name
from amodal_diffusion.options import package_version

if TYPE_CHECKING:
    from amodal_diffusion.completion.clip_work import ClipRecord, ClipWorker, LocalClip

FETCHING, WATCHING = "fetching", "watching"
"""Concurrency groups of an actor, beside that in which it computes."""


@dataclass(frozen=True)
class Setup:
    """What a worker must know, and must have in common with the driver, before its first clip.

    Attributes:
        base: settings that all clips share.
        network_inputs: records of the networks' folders on the driver's machine.
        weights: digests of the weights.
        threads: of torch.
        folder: the driver's current folder, from which relative paths start.
        token_file: file in the folder or bucket of the results.
        token: its content.
        storage: limits of transfers.
    """

    base: CompletionRequest
    network_inputs: Mapping[str, InputRecord]
    weights: Mapping[str, str]
    threads: int
    folder: Path
    token_file: Location
    token: str
    storage: StorageOptions = field(default_factory=StorageOptions)


class ClipActor:
    """A worker. Ray restarts it when its process or machine is lost, and the driver then calls :meth:`begin` again.

    Libraries are imported in :meth:`begin`, so that one that crashes does so in a call, whose error the driver sees.
    """

    def __init__(self) -> None:
        """Begin without networks."""
        self._worker: ClipWorker | None = None
        self._ticks = 0
        self._fetched: dict[str, LocalClip] = {}
        self._computing: str | None = None
        self._lock = Lock()

    def about(self) -> tuple[str, str]:
        """Version of the package and name of the machine; asked first, as other versions may not know `Setup`."""
        return package_version(), socket.gethostname()

    def begin(self, setup: Setup) -> str | None:
        """Compare this machine with the driver's and load the networks; returns what is wrong, None if nothing.

        Args:
            setup: of the driver.
        """
        if self._worker is not None:
            return None
        with suppress(OSError):  # absolute paths work without
            os.chdir(setup.folder)
        from amodal_diffusion.completion.clip_work import ClipWorker
        from amodal_diffusion.completion.networks import Places

        try:
            _check_shared(setup)
            places = Places(setup.base)
            mine = weights_of(places)
            other = [name for name in setup.weights if mine.get(name) != setup.weights[name]]
            if other:
                raise InputError(f"the weights of {', '.join(other)} are not those of the driver; install the same")
            worker = ClipWorker(setup.base, setup.network_inputs, threads=setup.threads, storage=setup.storage)
            worker.load(places=places)
        except (InputError, OSError) as error:
            return one_line(error)
        self._worker = worker
        return None

    def fetch(self, entry: ClipEntry) -> None:
        """Make the inputs of a clip local while another one is computed.

        Args:
            entry: the next clip of this worker.
        """
        assert self._worker is not None
        with self._lock, suppress(InputError):  # an error is found again, and recorded, when the clip is computed
            if entry.name not in (self._computing, *self._fetched):
                self._fetched[entry.name] = self._worker.fetch(entry, self._tick)

    def complete(self, entry: ClipEntry) -> ClipRecord:
        """Complete a clip.

        Args:
            entry: the clip.
        """
        assert self._worker is not None
        return self._worker.complete(entry, lambda: self._taken(entry), self._tick)

    def close(self) -> None:
        """Remove the copies of inputs; the process ends next."""
        if self._worker is not None:
            self._worker.close()

    def ticks(self) -> int:
        """A number that grows with each frame and each pass of a network."""
        return self._ticks

    def _tick(self) -> None:
        self._ticks += 1

    def _taken(self, entry: ClipEntry) -> LocalClip:
        """The local inputs of the clip that is computed now; those of one that went elsewhere are dropped."""
        assert self._worker is not None
        with self._lock:
            self._computing = entry.name
            found = self._fetched.pop(entry.name, None)
            while self._fetched:  # before the fetch, which may wait for the room of these
                self._fetched.popitem()[1].release()
            return found or self._worker.fetch(entry, self._tick)


def _check_shared(setup: Setup) -> None:
    """Raise an InputError unless this machine sees the folder or bucket of the results."""
    try:
        if read_bytes(setup.token_file) == setup.token.encode():
            return
        why = ""
    except InputError as error:
        why = f" ({error})" if is_url(setup.token_file) else ""
    place = public_name(setup.token_file).rpartition("/")[0]
    if is_url(setup.token_file):
        raise InputError(f"out: {place}: not the bucket that the driver sees{why}; give all machines the same access")
    raise InputError(f"out: {place}: not the folder that the driver sees; mount the same one on all machines")
