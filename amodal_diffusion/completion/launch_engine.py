"""The processes of an accelerate launch: each takes the next clip from one counter, and all share one tally."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING
from uuid import uuid4

from torch.distributed import PrefixStore, TCPStore  # type: ignore[attr-defined] # exported, but not by name

from amodal_diffusion.completion.clip_queue import WINDOW, longest_first, windows
from amodal_diffusion.completion.clip_work import ClipRecord
from amodal_diffusion.completion.tally import StoppedError, Tally
from amodal_diffusion.data.clip_list import ClipEntry, ClipList

if TYPE_CHECKING:
    from amodal_diffusion.evaluation.processes import Processes

_PATIENCE = timedelta(days=1)  # a process reads up to here the part of the list that another one has reached
_NEXT, _IN_A_ROW, _STOPPED = "next", "in a row", "stopped"


def open_store(processes: Processes) -> PrefixStore:
    """A store of keys and counters that all processes of the launch share.

    It lies on the server by which the processes have found each other, so that no further port is needed.

    Args:
        processes: of the launch, more than one.
    """
    run = processes.main_alone(lambda: uuid4().hex)
    host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    return PrefixStore(f"batch/{run}", TCPStore(host, port, is_master=False, timeout=_PATIENCE))


def next_clips(clips: ClipList, store: PrefixStore) -> Iterator[ClipEntry]:
    """The clips that this process takes, one by one; every clip of the list is taken by one process.

    Args:
        clips: the same in all processes.
        store: the same in all processes.
    """
    parts = enumerate(windows(clips))
    place, window = next(parts)  # a list has at least one clip
    order = _order(place, window, store)
    while (taken := store.add(_NEXT, 1) - 1) < len(clips):
        while place < taken // WINDOW:
            place, window = next(parts)
            order = _order(place, window, store)
        yield window[order[taken % WINDOW]]


def _order(place: int, window: Sequence[ClipEntry], store: PrefixStore) -> list[int]:
    """The order of a window. The first process that gets there decides, as sizes of files may change."""
    if store.add(f"readers {place}", 1) == 1:
        store.set(f"order {place}", json.dumps(longest_first(window)))
    order: list[int] = json.loads(store.get(f"order {place}"))
    return order


class SharedTally(Tally):
    """Counts of all processes of a launch; failures are those of this process."""

    def __init__(self, store: PrefixStore) -> None:
        """Begin with nothing.

        Args:
            store: the same in all processes.
        """
        super().__init__()
        self._store = store

    def _count(self, record: ClipRecord) -> None:
        self._store.add(record.status, 1)
        self._store.add("frames", record.frames)
        if record.status == "failed":
            self._store.add(_IN_A_ROW, 1)
        else:
            self._store.set(_IN_A_ROW, "0")

    def count(self, what: str) -> int:
        """See :meth:`Tally.count`."""
        return self._store.add(what, 0)

    @property
    def in_a_row(self) -> int:
        """See :attr:`Tally.in_a_row`."""
        return self._store.add(_IN_A_ROW, 0)

    def check(self, most: int | None) -> None:
        """See :meth:`Tally.check`; what stops one process stops all."""
        if self._store.check([_STOPPED]):
            raise StoppedError(self._store.get(_STOPPED).decode())
        try:
            super().check(most)
        except StoppedError as error:
            self._store.set(_STOPPED, str(error))
            raise
