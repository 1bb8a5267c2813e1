"""Keep what the libraries say of themselves off the terminal, where it would bury what a command says."""

from __future__ import annotations

import os


def quieten_libraries(*, quiet: bool) -> None:
    """Leave only errors of diffusers, transformers and the hub; their bars over loaded weights go.

    Call it before anything imports them: some warn while they are imported. A user's own ``..._VERBOSITY`` stands.

    Args:
        quiet: downloads go without a bar too.
    """
    for library in ("DIFFUSERS", "TRANSFORMERS", "HF_HUB"):
        os.environ.setdefault(f"{library}_VERBOSITY", "error")

    import diffusers.utils.logging as diffusers_logging
    import transformers.utils.logging as transformers_logging
    from huggingface_hub.utils.tqdm import enable_progress_bars

    for library, logging in (("DIFFUSERS", diffusers_logging), ("TRANSFORMERS", transformers_logging)):
        if os.environ[f"{library}_VERBOSITY"] == "error":  # said again where it had been imported before
            logging.set_verbosity_error()
    diffusers_logging.disable_progress_bar()
    transformers_logging.disable_progress_bar()  # the hub's too
    if not quiet:
        enable_progress_bars()
