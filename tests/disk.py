"""What a disk is told: syncs and renames in order, so that tests can ask what a power cut would leave."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest


@dataclass
class Disk:
    """Syncs and renames of this process in order.

    Attributes:
        events: ``("sync", path)`` and ``("rename", old, new)``.
        on_rename: called before each rename with the old and the new name.
    """

    events: list[tuple[str, ...]] = field(default_factory=list)
    on_rename: Callable[[Path, Path], None] | None = None

    def watch(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Take down what happens from now on."""
        fsync, real = os.fsync, {name: getattr(os, name) for name in ("rename", "replace")}

        def synced(descriptor: int) -> None:
            fsync(descriptor)
            self.events.append(("sync", str(Path(f"/proc/self/fd/{descriptor}").readlink())))

        def renamed(name: str) -> Callable[..., None]:
            def wrapped(old: Any, new: Any, **options: Any) -> None:
                if self.on_rename is not None:
                    self.on_rename(Path(old), Path(new))
                real[name](old, new, **options)
                self.events.append(("rename", str(old), str(new)))
                if self.place("sync", old) >= 0:  # what was synced has the new name now
                    self.events.append(("sync", str(new)))

            return wrapped

        monkeypatch.setattr(os, "fsync", synced)
        for name in real:
            monkeypatch.setattr(os, name, renamed(name))

    def place(self, *event: str | Path) -> int:
        """Position of the last such event; -1 if there was none."""
        wanted = tuple(map(str, event))
        return max((place for place, found in enumerate(self.events) if found == wanted), default=-1)

    def keeps(self, file: Path, root: Path) -> bool:
        """Whether a power cut would leave a file: it was synced, and then each folder from its own up to ``root``.

        Args:
            file: below ``root``.
            root: folder whose own name is not asked for.
        """
        after = self.place("sync", file)
        folders = [folder for folder in file.parents if folder.is_relative_to(root)]
        return after >= 0 and all(self.place("sync", folder) > after for folder in folders)
