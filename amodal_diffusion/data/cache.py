"""Content-hashed storage of what frozen networks make of data: depth, latents, tokens. Storage only.

An entry is one tensor in a safetensors file. Its name is a digest of all that it follows from: the content it was made
of, the networks and the settings that made it. So nothing in a cache is ever out of date: a changed frame, network or
setting has another name, under which there is nothing yet.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from amodal_diffusion.io.atomic import replacing_file

FORMAT = 1
"""Part of every key; to be raised when the code changes what it makes of the same content."""

State = Literal["intact", "missing", "damaged"]


def content_key(kind: str, made_by: Mapping[str, str], *content: bytes | Tensor) -> str:
    """Name of an entry.

    Args:
        kind: what it is, such as ``depth``.
        made_by: networks and settings that make it.
        content: what it is made of; of a tensor dtype, shape and values count.

    Returns:
        SHA-256, 64 hex digits.
    """
    result = hashlib.sha256(json.dumps([FORMAT, kind, sorted(made_by.items())]).encode())
    for part in content:
        # The digest of each part has one length, so that no two lists of parts look alike.
        result.update(_digest_of(part) if isinstance(part, Tensor) else hashlib.sha256(part).digest())
    return result.hexdigest()


@dataclass(frozen=True)
class Entry:
    """What a cache can hold.

    Attributes:
        key: see :func:`content_key`.
        make: makes it anew.
    """

    key: str
    make: Callable[[], Tensor]


class TensorCache:
    """A folder of entries, which any number of processes may read and fill at the same time.

    Args:
        folder: made when the first entry is written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def get(self, entry: Entry) -> Tensor:
        """Take what is there, else make it; nothing is written. On the CPU if it was there."""
        value = self._read(entry.key)
        return entry.make() if value is None else value

    def fill(self, entry: Entry) -> bool:
        """Make and write an entry, unless it is there and intact; whether it was made.

        Raises:
            OSError: if it cannot be written; then nothing is left of it.
        """
        if self._read(entry.key) is not None:
            return False
        self._write(entry.key, entry.make())
        return True

    def state(self, key: str) -> State:
        """Whether an entry is there and holds what was written."""
        if self._read(key) is not None:
            return "intact"
        return "damaged" if self.path(key).is_file() else "missing"

    def path(self, key: str) -> Path:
        """File of an entry, in one of 256 folders."""
        return self.folder / key[:2] / f"{key}.safetensors"

    def disk_use(self) -> int:
        """Bytes of all files."""
        return sum(file.stat().st_size for file in self.folder.glob("??/*.safetensors"))

    def _read(self, key: str) -> Tensor | None:
        """An entry's value; None if there is none or it is not what was written."""
        path = self.path(key)
        if not path.is_file():
            return None
        try:
            with safe_open(path, framework="pt") as file:
                value: Tensor = file.get_tensor("value")
                written = (file.metadata() or {}).get("sha256")
        except (SafetensorError, OSError):
            return None
        return value if _digest_of(value).hex() == written else None

    def _write(self, key: str, value: Tensor) -> None:
        path = self.path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        value = value.detach().cpu().contiguous()
        try:
            with replacing_file(path) as partial:
                save_file({"value": value}, partial, metadata={"sha256": _digest_of(value).hex()})
        except SafetensorError as error:  # raised by its writer when the disk is full
            raise OSError(f"{path}: cannot be written ({error})") from error


def _digest_of(value: Tensor) -> bytes:
    value = value.detach().cpu().contiguous()
    result = hashlib.sha256(f"{value.dtype} {list(value.shape)}".encode())
    result.update(value.view(-1).view(torch.uint8).numpy().data)
    return result.digest()
