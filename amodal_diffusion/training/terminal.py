"""What the programs of training say on a terminal: what happens as it happens, a mistake as one line."""

from __future__ import annotations

import logging
import sys

from amodal_diffusion.types import InputError

REFUSED = 2


def log_to_terminal() -> None:
    """Print what is logged from now on, with the time."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("accelerate").setLevel(logging.WARNING)


def refuse(error: InputError) -> int:
    """Print what stands in the way as one line.

    Args:
        error: says it.

    Returns:
        the program's exit status, 2.
    """
    sys.stderr.write(f"error: {' '.join(str(error).split())}\n")
    return REFUSED
