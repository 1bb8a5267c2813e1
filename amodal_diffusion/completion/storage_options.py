"""Options for inputs that are given by URL. This page imports nothing slow."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from amodal_diffusion.basics import InputError
from amodal_diffusion.io.urls import INPUT_ONLY, Location, is_url, local_path, public_name, scheme_of
from amodal_diffusion.options import option

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_SIZE = re.compile(r"(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>[KMGT]?)B?", re.IGNORECASE)


def read_size(value: str | int | None) -> int | None:
    """Number of bytes, such as 500MB or 20GB.

    Raises:
        InputError: if it is no size above 0.
    """
    if value is None:
        return None
    found = _SIZE.fullmatch(str(value).strip())
    size = int(float(found["number"]) * _UNITS[found["unit"].upper()]) if found else 0
    if size < 1:
        raise InputError(f"--scratch-limit: expected a size such as 500MB or 20GB, got {value}")
    return size


def read_location(value: str | Path) -> Location:
    """A path, or the URL of something in a storage service; ``file://`` becomes a path.

    Raises:
        InputError: if it is a URL that is not read.
    """
    return value if isinstance(value, str) and is_url(value) else local_path(value) or Path(value)


def read_out(value: str | Path | None) -> Location | None:
    """A folder for results, or the URL of one in a bucket; None stays.

    Raises:
        InputError: if it is a URL to which nothing can be written.
    """
    if value is None:
        return None
    location = read_location(value)
    if scheme_of(location) == INPUT_ONLY:
        raise InputError(f"--out: {public_name(location)}: https is for input only; write to a folder or a bucket")
    return location


@dataclass(frozen=True)
class StorageOptions:
    """Input by URL.

    Attributes:
        allow_host: host from which https may read, as HOST or HOST:PORT, redirects included; the list may name no other
        check_inputs: look whether inputs that are given by URL are still those of the finished results, by size and
            ETag; a clip whose inputs have changed fails, or is computed anew with --overwrite
        scratch: folder for copies of inputs, which are removed after use, and for results on their way to a bucket; by
            default in the system's folder for temporary files
        scratch_limit: size that the copies of one process may take together, such as 500MB; 20GB by default
    """

    allow_host: Sequence[str] = option((), metavar="HOST", several=True)
    check_inputs: bool = option(False)
    scratch: Path | None = option(None, metavar="DIR", advanced=True)
    scratch_limit: int | None = option(None, metavar="SIZE", read=read_size, advanced=True)
