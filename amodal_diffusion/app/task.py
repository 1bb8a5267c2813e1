"""What the page asks of whoever completes a clip; `commands/app.py` answers with the code of `complete`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True)
class Task:
    """A clip to complete.

    Attributes:
        clip: a video or a folder of pictures.
        masks: of what can be seen, as `read_masks` takes them.
        depth: of the clip, nearer is larger; None where there is none.
        out: folder of the results, made whole or not at all.
        num_frames: of the clip.
        num_objects: in the masks.
        seed: the same seed, the same result.
        samples: answers of each object's shape; above 1, the results say how far they differ.
    """

    clip: Path
    masks: Path
    depth: Path | None
    out: Path
    num_frames: int
    num_objects: int
    seed: int
    samples: int


class Completer(Protocol):
    """Completes clips, one at a time."""

    @property
    def description(self) -> str:
        """What it runs, such as ``tiny on cpu``."""

    def __call__(self, task: Task, on_step: Callable[[float], None]) -> None:
        """Complete a clip into the task's folder.

        Args:
            task: what to do.
            on_step: called often with the share that is done, from 0 to 1; an exception that it raises ends the work.

        Raises:
            InputError: if an input is wrong.
        """
