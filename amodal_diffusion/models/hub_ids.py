"""Ids of models on the Hugging Face hub, with a revision or without, and their files in the local cache."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

MAIN = "main"
"""The revision that an id without one means."""
_REVISION = r"(?!.*\.\.)\w[\w./-]*"  # a branch, a tag or a commit; the cache makes paths of it
_ID = re.compile(rf"(\w[\w.-]*/[\w.-]+)(?:@({_REVISION}))?")
_NAME = re.compile(rf"([\w.-]+)(?:@({_REVISION}))?")


class NotDownloadedError(ValueError):
    """A repository that is neither in the local cache nor can be downloaded; the message is one line."""


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

    def snapshot(self, patterns: Sequence[str], *, download: bool = True) -> Path:
        """The folder of the repository's files in the local cache, downloaded if they are not there yet.

        Args:
            patterns: of the files that are wanted.
            download: False looks into the local cache alone.

        Raises:
            NotDownloadedError: if they are not there and cannot be downloaded; says why.
        """
        try:
            folder = snapshot_download(
                self.repository,
                revision=self.revision,
                allow_patterns=list(patterns),
                local_files_only=not download,
            )
        except (LocalEntryNotFoundError, HfHubHTTPError, HFValidationError, OSError) as error:
            text = str(error).strip()
            raise NotDownloadedError(text.splitlines()[0] if text else type(error).__name__) from error
        return Path(folder)


def split_revision(name: str | Path) -> tuple[str, str] | None:
    """A name without an owner, and the revision after its ``@``; None if it is no such name.

    Args:
        name: such as ``diffusion-vas@v2``.
    """
    match = _NAME.fullmatch(str(name))
    return (match[1], match[2] or MAIN) if match else None


def hub_place(name: str | Path) -> tuple[str, str]:
    """What transformers takes as a name and as a revision.

    Args:
        name: a folder, ``owner/name`` or ``owner/name@REVISION``.
    """
    hub_id = None if Path(name).is_dir() else HubId.parse(name)
    return (str(name), MAIN) if hub_id is None else (hub_id.repository, hub_id.revision)
