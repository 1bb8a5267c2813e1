"""Suppression of log messages and progress bars of third-party libraries."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


def quieten_libraries(*, quiet: bool) -> None:
    """Show only errors of diffusers, transformers and huggingface_hub, without progress bars for loading weights.

    Call this before the libraries are imported, because some warn on import. A ``..._VERBOSITY`` variable that the user
    has set takes precedence.

    Args:
        quiet: hide the progress bars of downloads too.
    """
    for library in ("DIFFUSERS", "TRANSFORMERS", "HF_HUB"):
        os.environ.setdefault(f"{library}_VERBOSITY", "error")

    import diffusers.utils.logging as diffusers_logging
    import transformers.utils.logging as transformers_logging
    from huggingface_hub.utils.tqdm import enable_progress_bars

    for library, logging in (("DIFFUSERS", diffusers_logging), ("TRANSFORMERS", transformers_logging)):
        if os.environ[f"{library}_VERBOSITY"] == "error":  # needed if the library was imported before
            logging.set_verbosity_error()
    diffusers_logging.disable_progress_bar()
    transformers_logging.disable_progress_bar()  # also disables those of huggingface_hub
    if not quiet:
        enable_progress_bars()


@contextmanager
def without_bars() -> Iterator[None]:
    """Hide the bars that transformers shows while it loads weights from a folder; the user's settings stay."""
    if "transformers" not in sys.modules:  # diffusers alone shows none, and the import takes time
        yield
        return
    import transformers.utils.logging as transformers_logging
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    shown, downloads_hidden = transformers_logging.is_progress_bar_enabled(), are_progress_bars_disabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            transformers_logging.enable_progress_bar()  # also enables those of huggingface_hub
        elif not downloads_hidden:
            enable_progress_bars()
        if downloads_hidden:
            disable_progress_bars()


@contextmanager
def uncollected() -> Iterator[None]:
    """Hold back garbage collection while libraries are imported and networks loaded, and exempt what they leave.

    Importing makes a million objects that stay. Searching them again and again for garbage takes a fifth of the time.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if enabled:
            gc.enable()
