"""The options of `complete`, `batch` and `evaluate` that say how to sample."""

from __future__ import annotations

from jsonargparse.typing import PositiveFloat, PositiveInt

from amodal_diffusion.config import CommandParser


def add_sampling_options(parser: CommandParser) -> None:
    """Declare them, as a group of their own.

    Args:
        parser: of a subcommand.
    """
    group = parser.add_argument_group("sampling")
    group.add_argument(
        "--preset", choices=["fast", "default", "paper"], default=None,
        help="fast: few steps; default: as the checkpoint says; where it says nothing as the package says, and as the "
        "paper with --conditioning released; paper: 25 Euler steps, guidance 1.5; without it default",
    )  # fmt: skip
    group.add_argument("--steps", metavar="N", type=PositiveInt, default=None, help="denoising steps")
    group.add_argument("--guidance", metavar="G", type=PositiveFloat, default=None, help="weight of guidance")
    group.add_argument(
        "--solver", choices=["euler", "heun", "dpmpp"], default=None,
        help="Euler's method, Heun's (two network passes a step), or DPM-Solver++",
    )  # fmt: skip
