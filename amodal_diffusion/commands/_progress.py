"""How far the completion of an object has come, kept beside its files so that a later run goes on from there."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from amodal_diffusion.pipelines.copies import TALLY
from amodal_diffusion.pipelines.guards import GUARDS
from amodal_diffusion.types import STAGES


@dataclass(frozen=True)
class Progress:
    """What was done for the first frames of an object, by all runs together.

    Attributes:
        frames: whose files are written.
        seconds: time of the networks, by stage.
        removed_by_guards: hidden pixels that were removed from these frames, by guard.
        hidden_pixels: those that were painted, and how many of them are copies.
    """

    frames: int = 0
    seconds: Mapping[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))
    removed_by_guards: Mapping[str, int] = field(default_factory=lambda: dict.fromkeys(GUARDS, 0))
    hidden_pixels: Mapping[str, float] = field(default_factory=lambda: dict.fromkeys(TALLY, 0.0))

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read what :meth:`to_json` wrote, or the record of a finished object; nothing is done where there is neither.

        Args:
            path: of the file.
        """
        try:
            found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return cls()
        frames = found["frames"] if "frames" in found else len(found["amodal_area"])
        hidden = found.get("hidden_pixels", dict.fromkeys(TALLY, 0.0))
        return cls(frames, found["seconds"], found["removed_by_guards"], hidden)

    def plus(
        self,
        frames: int,
        *,
        seconds: Mapping[str, float],
        removed_by_guards: Mapping[str, int],
        hidden_pixels: Mapping[str, float],
    ) -> Self:
        """What is done with more frames.

        Args:
            frames: more, like the following.
            seconds: by stage.
            removed_by_guards: pixels by guard.
            hidden_pixels: pixels by kind.
        """
        return type(self)(
            self.frames + frames,
            {stage: spent + seconds[stage] for stage, spent in self.seconds.items()},
            {guard: count + removed_by_guards[guard] for guard, count in self.removed_by_guards.items()},
            {kind: count + hidden_pixels[kind] for kind, count in self.hidden_pixels.items()},
        )

    def to_json(self) -> str:
        """For :meth:`read`."""
        return json.dumps(asdict(self)) + "\n"
