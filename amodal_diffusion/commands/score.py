"""`amodal-diffusion score`: score prediction files, of this or another program, against annotations."""

from __future__ import annotations

from jsonargparse import Namespace

from amodal_diffusion.evaluation.settings import ScoreSettings
from amodal_diffusion.options import add_help, add_options, package_version, read_options
from amodal_diffusion.parsing import CommandParser

SUMMARY = "score prediction files, of this or another program, against annotations"


def add_arguments(parser: CommandParser) -> None:
    """Declare the command line.

    Args:
        parser: parser of this subcommand.
    """
    add_options(parser, ScoreSettings)
    add_help(parser)


def run(args: Namespace) -> None:
    """Score the predictions, write the scores and print them.

    Args:
        args: what :func:`add_arguments` declares.

    Raises:
        InputError: as :func:`~amodal_diffusion.evaluation.rescoring.score_predictions`.
    """
    from amodal_diffusion.evaluation.rescoring import SUMMARY as FILE
    from amodal_diffusion.evaluation.rescoring import describe_scores, score_predictions

    settings = read_options(ScoreSettings, args)
    print(describe_scores(score_predictions(settings, version=package_version())))
    print(f"\n{settings.out / FILE}")
