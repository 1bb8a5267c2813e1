"""Content-addressed storage of the outputs of frozen networks: depth, latents, tokens.

An entry is one tensor in a safetensors file. Its name is a hash of the input, the networks and the settings that
determine the tensor. Entries are therefore never stale: another frame, network or setting gives another name. An input
that is a file is known by path, size and time of the last change.
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

from amodal_diffusion.data.samples import FrameFile, PackedFrame
from amodal_diffusion.io.atomic import make_folder, replacing_file

FORMAT = 2
"""Part of every key; raise it when the code computes another output from the same input."""

State = Literal["intact", "missing", "damaged"]


def content_key(kind: str, made_by: Mapping[str, str], *content: bytes | Tensor) -> str:
    """Key of an entry.

    Args:
        kind: kind of tensor, such as ``depth``.
        made_by: networks and settings that compute it.
        content: input that it is computed from; for a tensor, dtype, shape and values count.

    Returns:
        SHA-256, 64 hex digits.
    """
    result = hashlib.sha256(json.dumps([FORMAT, kind, sorted(made_by.items())]).encode())
    for part in content:
        # All digests have the same length, so that different lists of parts never concatenate to the same bytes.
        result.update(_digest_of(part) if isinstance(part, Tensor) else hashlib.sha256(part).digest())
    return result.hexdigest()


def file_state(path: Path) -> bytes:
    """Content of a file for :func:`content_key`, without reading it: full path, size, and time of the last change.

    A file that is written anew has another time, in nanoseconds, even if its size is the same.

    Raises:
        OSError: if there is no such file.
    """
    found = path.stat()
    return json.dumps([str(path.resolve()), found.st_size, found.st_mtime_ns]).encode()


def frame_identity(frame: FrameFile) -> bytes:
    """Content of a frame for :func:`content_key`, without reading it; of a frame in a shard, by the shard's digest.

    Raises:
        OSError: if there is no such file.
    """
    return frame.identity if isinstance(frame, PackedFrame) else file_state(frame)


@dataclass(frozen=True)
class Entry:
    """A tensor that a cache can store.

    Attributes:
        key: see :func:`content_key`.
        make: computes the tensor.
    """

    key: str
    make: Callable[[], Tensor]


class TensorCache:
    """A folder of entries, which any number of processes may read and fill at the same time.

    Args:
        folder: created when the first entry is written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def get(self, entry: Entry) -> Tensor:
        """Read an entry, or compute it without writing it; a tensor that was read is on the CPU."""
        value = self._read(entry.key)
        return entry.make() if value is None else value

    def fill(self, entry: Entry) -> bool:
        """Compute and write an entry unless it is intact already.

        Returns:
            whether the entry was computed.

        Raises:
            OSError: if the entry cannot be written; no partial file remains.
        """
        if self._read(entry.key) is not None:
            return False
        self._write(entry.key, entry.make())
        return True

    def state(self, key: str) -> State:
        """Whether an entry exists and passes its checksum."""
        if self._read(key) is not None:
            return "intact"
        return "damaged" if self.path(key).is_file() else "missing"

    def path(self, key: str) -> Path:
        """File of an entry, in one of 256 folders."""
        return self.folder / key[:2] / f"{key}.safetensors"

    def disk_use(self) -> int:
        """Total size of all entries in bytes."""
        return sum(file.stat().st_size for file in self.folder.glob("??/*.safetensors"))

    def _read(self, key: str) -> Tensor | None:
        """Tensor of an entry; None if it is missing or damaged."""
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
        make_folder(path.parent)
        value = value.detach().cpu().contiguous()
        try:
            with replacing_file(path) as partial:
                save_file({"value": value}, partial, metadata={"sha256": _digest_of(value).hex()})
        except SafetensorError as error:  # safetensors raises it when the disk is full
            raise OSError(f"{path}: cannot be written ({error})") from error


def _digest_of(value: Tensor) -> bytes:
    value = value.detach().cpu().contiguous()
    result = hashlib.sha256(f"{value.dtype} {list(value.shape)}".encode())
    result.update(value.view(-1).view(torch.uint8).numpy().data)
    return result.digest()
