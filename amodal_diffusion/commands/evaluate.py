"""`amodal-diffusion evaluate`: score methods on a benchmark and write scores, plots and an HTML report."""

from __future__ import annotations

from jsonargparse import Namespace

from amodal_diffusion.evaluation.settings import RENAMED, EvaluationSettings
from amodal_diffusion.options import add_help, add_options, package_version, read_options
from amodal_diffusion.parsing import CommandParser

SUMMARY = "score methods on a benchmark and compare them"


def add_arguments(parser: CommandParser) -> None:
    """Declare the command line.

    Args:
        parser: parser of this subcommand.
    """
    add_options(parser, EvaluationSettings, renamed=RENAMED)
    add_help(parser)


def run(args: Namespace) -> int:
    """Evaluate the methods and print the scores; the processes of a distributed launch share the tracks.

    Args:
        args: what :func:`add_arguments` declares.

    Returns:
        exit status.

    Raises:
        InputError: in a single process, as :func:`~amodal_diffusion.evaluation.evaluate.evaluate`. In a distributed
            launch, the main process prints the error instead.
    """
    from amodal_diffusion.models.libraries import quieten_libraries

    settings = read_options(EvaluationSettings, args)
    quieten_libraries(quiet=settings.quiet)

    from amodal_diffusion.evaluation.evaluate import describe_findings, evaluate
    from amodal_diffusion.evaluation.processes import Processes

    processes = Processes()

    def work() -> None:
        findings = evaluate(settings, processes, version=package_version())
        if processes.is_main:
            print(describe_findings(findings, settings, processes=processes.count))

    return processes.run(work)
