"""Command-line options from typed dataclasses: a field is an option, its docstring the help, its group the class."""

from __future__ import annotations

import sys
from argparse import SUPPRESS, Action, ArgumentParser, ArgumentTypeError, BooleanOptionalAction
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, field, fields
from importlib.metadata import PackageNotFoundError, version
from typing import Any, TypeVar, get_args, get_type_hints

from docstring_parser import parse
from jsonargparse import Namespace

from amodal_diffusion.basics import InputError
from amodal_diffusion.parsing import CommandParser

PACKAGE = "amodal-diffusion"
T = TypeVar("T")
Renamed = Mapping[str, str | Mapping[str, Sequence[str]]]
"""Options of an earlier version by name: their new name, or for each of their values the options that say the same."""


def option(
    default: Any = MISSING,  # noqa: ANN401 - of the field's type
    *,
    metavar: str | None = None,
    read: Callable[[Any], Any] | None = None,
    choices: Sequence[str] | None = None,
    short: str | None = None,
    positional: bool = False,
    several: bool = False,
    advanced: bool = False,
) -> Any:  # noqa: ANN401 - as `dataclasses.field`
    """A field of a dataclass that becomes an option.

    Args:
        default: value where the option is not given; required without.
        metavar: what the help calls the value.
        read: makes the value from what is given on the command line or in YAML; by the field's type when None.
        choices: values that are allowed.
        short: second name of one letter, such as ``-q``.
        positional: the value stands without an option's name.
        several: the option takes several values and may be repeated.
        advanced: shown by ``--help-all``, not by ``--help``.
    """
    options = {"metavar": metavar, "read": read, "choices": choices, "short": short, "positional": positional,
               "several": several, "advanced": advanced}  # fmt: skip
    return field(default=default, metadata=options)


def subcommand_parser(description: str) -> CommandParser:
    """A parser for :func:`add_options`.

    Args:
        description: first line of the help.
    """
    return CommandParser(description=description, print_config=None)


def add_options(parser: CommandParser, *groups: type[Any], renamed: Renamed | None = None) -> None:
    """Declare the options of dataclasses, a group of the help each.

    Args:
        parser: of a subcommand.
        groups: dataclasses; their first docstring line is the group's title, ``Attributes`` are the help lines.
        renamed: hidden options of an earlier version.
    """
    for cls in groups:
        docs = parse(cls.__doc__ or "")
        described = {entry.arg_name: " ".join((entry.description or "").split()) for entry in docs.params}
        group = parser.add_argument_group((docs.short_description or cls.__name__).rstrip("."))
        hints = get_type_hints(cls)
        for entry in fields(cls):
            _add(parser, group, entry, hints[entry.name], described[entry.name])
    parser.renamed.update(renamed or {})


def add_help(parser: CommandParser) -> None:
    """Declare ``--config FILE``, and ``--help-all`` where ``--help`` leaves options out; call it last.

    Args:
        parser: of a subcommand.
    """
    parser.add_argument("--config", action="config", help="YAML file with any of the options")
    if parser.advanced:
        parser.add_argument("--help-all", action=_HelpAll, nargs=0, default=SUPPRESS, help="show all options and exit")


def read_options(cls: type[T], args: Namespace) -> T:
    """The values of one dataclass out of a parsed command line.

    Args:
        cls: was given to :func:`add_options`.
        args: of the parser.
    """
    return cls(**{entry.name: getattr(args, entry.name) for entry in fields(cls)})  # type: ignore[arg-type]


def _add(parser: CommandParser, group: Any, entry: Any, hint: Any, text: str) -> None:  # noqa: ANN401 - of argparse
    how = dict(entry.metadata)
    flag = entry.name if how["positional"] else "--" + entry.name.replace("_", "-")
    names = [flag] if how["short"] is None else [how["short"], flag]
    settings: dict[str, Any] = {"help": text}
    if not how["positional"]:
        settings |= {"required": True} if entry.default is MISSING else {"default": entry.default}
    if hint is bool:
        settings["action"] = "store_true"
    elif bool in get_args(hint):
        settings["action"] = BooleanOptionalAction
    else:
        settings["type"] = _reader(how["read"]) if how["read"] else hint
        if how["metavar"]:
            settings["metavar"] = how["metavar"]
        if how["choices"]:
            settings |= {"choices": list(how["choices"]), "type": str}
        if how["several"]:
            settings |= {"nargs": "+", "type": how["read"] or str}
            if not how["positional"]:
                settings |= {"action": _Several, "default": []}
    group.add_argument(*names, **settings)
    if how["advanced"]:
        parser.advanced.add(entry.name)


class _WrongValueError(ArgumentTypeError, ValueError):
    """Of which argparse shows the message, and which jsonargparse takes for a mistake in YAML too."""


def _reader(read: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Read a value such that argparse reports what is wrong with it in the words of the error."""

    def reader(value: Any) -> Any:  # noqa: ANN401 - from the command line or from YAML
        try:
            return read(value)
        except InputError as error:
            raise _WrongValueError(str(error)) from error

    return reader


class _Given(list[Any]):
    """Values from the command line, as opposed to those of a YAML file."""


class _Several(Action):
    """Gather the values of every time that an option is given; those of a YAML file are replaced."""

    def __call__(self, _: ArgumentParser, namespace: Any, values: Any, *__: object) -> None:  # noqa: ANN401
        """See `argparse.Action`."""
        before = getattr(namespace, self.dest, ())
        setattr(namespace, self.dest, _Given([*(before if isinstance(before, _Given) else ()), *values]))


class _HelpAll(Action):
    """Print the whole help and exit."""

    def __call__(self, parser: ArgumentParser, *_: object) -> None:
        """See `argparse.Action`."""
        if isinstance(parser, CommandParser):
            sys.stdout.write(parser.format_full_help())
        parser.exit()


def package_version() -> str:
    """Installed version of this package; ``"unknown"`` if it runs from an uninstalled source tree."""
    try:
        return version(PACKAGE)
    except PackageNotFoundError:
        return "unknown"
