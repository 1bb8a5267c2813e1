"""The `amodal-diffusion` command: finds the subcommand, runs it, and turns a user's mistake into one line."""

from __future__ import annotations

import logging
import pkgutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module

from amodal_diffusion import commands
from amodal_diffusion.basics import InputError, one_line
from amodal_diffusion.options import PACKAGE, package_version, subcommand_parser
from amodal_diffusion.parsing import CommandParser

FAILED, INTERRUPTED = 2, 130
RESUMABLE = ("batch", "complete", "download", "evaluate", "scenes", "shards")
"""Commands that keep what is finished when they are interrupted, for the same command to go on from."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line.

    Args:
        argv: without the program's name; the process's own when None.

    Returns:
        exit status: 0, or 2 after a mistake, or 130 after an interruption.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    names = _subcommands()
    wanted = [name for name in names if argv[:1] == [name]] or names  # all of them for the help and for mistakes
    modules = {name: import_module(f"{commands.__name__}.{name}") for name in wanted}
    parser = CommandParser(
        prog=PACKAGE,
        description="Complete partly hidden objects in video: whole masks and whole appearance.",
        version=package_version(),
    )
    subcommands = parser.add_subcommands(dest="command", required=True)
    subparsers: dict[str, CommandParser] = {}
    for name, module in modules.items():
        subparsers[name] = subcommand_parser(f"{module.SUMMARY[0].upper()}{module.SUMMARY[1:]}.")
        module.add_arguments(subparsers[name])
        subcommands.add_subcommand(name, subparsers[name], help=module.SUMMARY)
    if argv and argv[0] in subparsers:
        argv = [argv[0], *subparsers[argv[0]].prepare(argv[1:])]
    args = parser.parse_args(argv)
    with _notices():
        try:
            return modules[args.command].run(args[args.command]) or 0
        except (InputError, OSError) as error:
            print(f"error: {one_line(error)}", file=sys.stderr)
            return FAILED
        except KeyboardInterrupt:
            goes_on = "; the same command again goes on with what is not finished" if args.command in RESUMABLE else ""
            print(f"\ninterrupted{goes_on}", file=sys.stderr)
            return INTERRUPTED


def _subcommands() -> list[str]:
    """Names of the modules in `commands`; those with an underscore are shared by them."""
    return [module.name for module in pkgutil.iter_modules(commands.__path__) if module.name[0] != "_"]


@contextmanager
def _notices() -> Iterator[None]:
    """Print what the package logs as one line each, such as ``warning: ...``."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_OneLine())
    logger = logging.getLogger("amodal_diffusion")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


class _OneLine(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        text = " ".join(record.getMessage().split())
        return text if record.levelno <= logging.INFO else f"{record.levelname.lower()}: {text}"


if __name__ == "__main__":
    sys.exit(main())
