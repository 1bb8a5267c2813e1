"""Typed settings and command lines: defaults, then YAML, then flags; a mistake is one line and status 2."""

from __future__ import annotations

import difflib
import itertools
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import yaml
from jsonargparse import ArgumentParser, Namespace

from amodal_diffusion.types import InputError

T = TypeVar("T")

# How jsonargparse words an unknown flag or key; the groups hold the enclosing key, if any, and the key.
_UNKNOWN = (
    re.compile(r"^unrecognized arguments: (?P<key>--[^\s=]+)"),
    re.compile(r"^Group '(?P<group>[^']+)' does not accept option '(?P<key>[^']+)'"),
    re.compile(r"^Option '(?P<key>[^']+)' is not accepted"),
)
_WRONG_TYPE = re.compile(r'^Parser key "(?P<key>[^"]+)":\s+(?P<rest>.*)$', re.DOTALL)


class CommandParser(ArgumentParser):
    """A jsonargparse parser whose mistakes are one line and whose flags beat `--config` in any order."""

    def __init__(self, **settings: Any) -> None:  # noqa: ANN401 - argparse's own constructor arguments
        """Build the parser; a shortened flag is refused like any other unknown one."""
        super().__init__(**{"allow_abbrev": False, **settings})

    def parse_args(  # type: ignore[override]  # argparse's overloads, of which only one is meant here
        self,
        args: Sequence[str] | None = None,
        namespace: Namespace | None = None,
        **settings: Any,  # noqa: ANN401
    ) -> Namespace:
        """Parse a command line; the files of `--config` come before any flag, and a bare truth flag means true."""
        if "--config" in self._option_string_actions:
            files = ["--config", *(f"--{group}" for group in self.groups or ())]
            args = _files_first(self._complete_flags(sys.argv[1:] if args is None else args), files)
        return super().parse_args(args, namespace, **settings)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Print one line and exit with status 2, or raise where the parser does not exit on errors.

        Args:
            message: what is wrong, in jsonargparse's words.
            ex: its cause.

        Raises:
            InputError: if the parser was made with ``exit_on_error=False``.
        """
        line = self._explain(message)
        if not self.exit_on_error:
            raise InputError(line) from ex
        self.exit(2, f"error: {line}\n")
        raise AssertionError  # argparse's exit never returns; its signature does not say so

    def _complete_flags(self, args: Sequence[str]) -> list[str]:
        """Take `--dry-run` for `--dry_run true`: dashes for underscores, and no value for true."""
        completed = []
        for argument, following in itertools.zip_longest(args, args[1:], fillvalue="--"):
            flag, equals, value = argument.partition("=")
            if flag.startswith("--") and flag not in self._option_string_actions:
                flag = "--" + flag.removeprefix("--").replace("-", "_")
            action = self._option_string_actions.get(flag)
            if action is None:
                completed.append(argument)
            elif getattr(action, "_typehint", None) is bool and not equals and following.startswith("--"):
                completed.append(f"{flag}=true")
            else:
                completed.append(flag + equals + value)
        return completed

    def _explain(self, message: str) -> str:
        """Reword jsonargparse's messages into one line; an unknown name gets the nearest known one."""
        for pattern in _UNKNOWN:
            match = pattern.match(message)
            if match:
                found = match.groupdict()
                key = ".".join(part for part in (found.get("group"), found["key"]) if part)
                return f"{key}: unknown; {self._nearest(key)}"
        match = _WRONG_TYPE.match(message)
        if match:
            message = f"{match['key']}: {match['rest']}"
        return " ".join(message.split())

    def _nearest(self, key: str) -> str:
        """Name the known flag or key that is most like an unknown one, by its whole name or its last part."""
        flag = key.startswith("--")
        known = sorted(
            option.removeprefix("--")
            for option in self._option_string_actions
            if option.startswith("--") and not option.endswith("+")
        )
        if not known:
            return "no options are known here"
        name = key.removeprefix("--")

        def likeness(candidate: str) -> float:
            last = difflib.SequenceMatcher(None, name.rsplit(".", 1)[-1], candidate.rsplit(".", 1)[-1]).ratio()
            return difflib.SequenceMatcher(None, name, candidate).ratio() + last

        return f"did you mean {'--' if flag else ''}{max(known, key=likeness)}?"


def parse_settings(cls: type[T], args: Sequence[str], *, prog: str | None = None, description: str | None = None) -> T:
    """Read settings from a command line: the dataclass's defaults, then YAML, then flags.

    Args:
        cls: a dataclass, whose fields may be dataclasses; ``--data.frames 8`` sets one of those.
        args: the command line without the program's name.
        prog: the program's name in its help.
        description: first line of its help.

    Returns:
        the settings. A mistake prints one line ``error: ...`` and exits with status 2.
    """
    parser = _settings_parser(cls, prog=prog, description=description)
    try:
        return _instantiate(cls, parser, parser.parse_args(args))
    except InputError as error:
        parser.error(str(error), error)


def load_settings(cls: type[T], path: Path, overrides: Mapping[str, object] | None = None) -> T:
    """Read settings from a YAML file.

    Args:
        cls: a dataclass, whose fields may be dataclasses.
        path: the file.
        overrides: values by dotted name, such as ``{"data.frames": 8}``, that beat the file.

    Raises:
        InputError: if the file cannot be read, has an unknown key (names the nearest known one) or a value of
            another type than the field's.
    """
    parser = _settings_parser(cls, exit_on_error=False)
    flags = [f"--{key}={_as_flag(value)}" for key, value in (overrides or {}).items()]
    return _instantiate(cls, parser, parser.parse_args(["--config", str(path), *flags]))


def save_settings(settings: object, path: Path) -> None:
    """Write settings as YAML that :func:`load_settings` reads back equal.

    Args:
        settings: a dataclass instance.
        path: the file, overwritten.
    """
    path.write_text(dump_settings(settings), encoding="utf-8")


def dump_settings(settings: object) -> str:
    """Settings as YAML text, every field with its resolved value.

    Args:
        settings: a dataclass instance.

    Raises:
        TypeError: if it is not one.
    """
    if not is_dataclass(settings) or isinstance(settings, type):
        raise TypeError(f"settings: expected a dataclass instance, got {settings!r}")
    text: str = yaml.safe_dump(_plain(asdict(settings)), sort_keys=False, allow_unicode=True)
    return text


def find_config(name: str) -> str:
    """Where a YAML file is: the name itself, or the file of that name that the package ships.

    Args:
        name: path, or name of a shipped file such as ``configs/debug_cpu.yaml``.

    Returns:
        the path; the name unchanged where there is no such file, for the parser to say so.
    """
    path = shipped_configs() / name.removeprefix("configs/")
    return str(path) if not Path(name).exists() and path.is_file() else name


def shipped_configs() -> Path:
    """Folder of the YAML files that the package ships: in the installed package, or beside it in a checkout."""
    package = Path(__file__).parent
    installed = package / "configs"
    return installed if installed.is_dir() else package.parent / "configs"


def _settings_parser(cls: type[Any], **settings: Any) -> CommandParser:  # noqa: ANN401
    parser = CommandParser(**settings)
    parser.add_argument("--config", action="config", help="YAML file with any of the settings below")
    parser.add_class_arguments(cls, nested_key=None)
    return parser


def _instantiate(cls: type[T], parser: CommandParser, values: Namespace) -> T:
    values.pop("config", None)
    return cls(**vars(parser.instantiate(values)))


def _files_first(args: Sequence[str], options: Sequence[str]) -> list[str]:
    """Move options that name a YAML file to the front, so that every other flag beats them."""
    moved: dict[str, list[str]] = {option: [] for option in options}
    others = []
    remaining = iter(args)
    for argument in remaining:
        option, equals, value = argument.partition("=")
        if option not in moved:
            others.append(argument)
            continue
        path = value if equals else next(remaining, None)
        moved[option] += [option] if path is None else [option, find_config(path)]
    return [*itertools.chain.from_iterable(moved.values()), *others]


def _as_flag(value: object) -> str:
    if isinstance(value, (str, Path)):
        return str(value)
    text: str = yaml.safe_dump(_plain(value), default_flow_style=True, width=10**6)
    return text.strip().removesuffix("...").strip()


def _plain(value: object) -> object:
    """Turn tuples and paths into what YAML has."""
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    return str(value) if isinstance(value, Path) else value
