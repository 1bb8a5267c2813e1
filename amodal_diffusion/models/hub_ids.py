"""Ids of models on the Hugging Face hub, with a revision or without."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Self

MAIN = "main"
"""The revision that an id without one means."""
_REVISION = r"(?!.*\.\.)\w[\w./-]*"  # a branch, a tag or a commit; the cache makes paths of it
_ID = re.compile(rf"(\w[\w.-]*/[\w.-]+)(?:@({_REVISION}))?")
_NAME = re.compile(rf"([\w.-]+)(?:@({_REVISION}))?")
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class HubId:
    """A repository at a revision.

    Attributes:
        repository: ``owner/name``.
        revision: a branch, a tag or a commit.
    """

    repository: str
    revision: str = MAIN

    @classmethod
    def parse(cls, text: str | Path) -> Self | None:
        """Read ``owner/name`` or ``owner/name@REVISION``; None if it is neither.

        Args:
            text: as a user gives it; a folder of that name counts before.
        """
        match = _ID.fullmatch(str(text))
        return cls(match[1], match[2] or MAIN) if match else None

    @property
    def is_fixed(self) -> bool:
        """Whether the revision is a commit, which always means the same files."""
        return _COMMIT.fullmatch(self.revision) is not None

    def __str__(self) -> str:
        """The id as a user gives it."""
        return self.repository if self.revision == MAIN else f"{self.repository}@{self.revision}"


def split_revision(name: str | Path) -> tuple[str, str | None] | None:
    """A name without an owner, and the revision after its ``@`` if there is one; None if it is no such name.

    Args:
        name: such as ``diffusion-vas@v2``.
    """
    match = _NAME.fullmatch(str(name))
    return (match[1], match[2]) if match else None


def hub_place(name: str | Path) -> tuple[str, str]:
    """What transformers takes as a name and as a revision.

    Args:
        name: a folder, ``owner/name`` or ``owner/name@REVISION``.
    """
    hub_id = None if Path(name).is_dir() else HubId.parse(name)
    return (str(name), MAIN) if hub_id is None else (hub_id.repository, hub_id.revision)
