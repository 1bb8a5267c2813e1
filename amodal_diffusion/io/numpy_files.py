"""NumPy files of users: arrays alone, no pickled objects, and one error for all the ways in which one is damaged."""

from __future__ import annotations

import struct
import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

_DAMAGE = (OSError, ValueError, EOFError, KeyError, OverflowError, TypeError, SyntaxError, RuntimeError, struct.error,
           tokenize.TokenError, zipfile.BadZipFile, zlib.error)  # fmt: skip


def load_arrays(path: Path) -> npt.NDArray[Any] | dict[str, npt.NDArray[Any]]:
    """Read the array of a ``.npy`` file, which stays on disk, or all arrays of an ``.npz`` file by name.

    Args:
        path: the file, whatever its ending.

    Raises:
        ValueError: if it is no such file, is damaged, has pickled objects, or claims more than the memory holds; the
            message is one line.
    """
    try:
        loaded = np.load(path, mmap_mode="r", allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return loaded
        with loaded:
            return {name: np.asarray(loaded[name]) for name in loaded.files}
    except _DAMAGE as error:
        raise ValueError(" ".join(str(error).split()) or type(error).__name__) from error
    except MemoryError as error:
        raise ValueError("its arrays take more memory than there is") from error
