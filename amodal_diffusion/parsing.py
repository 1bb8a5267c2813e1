"""Typed settings from YAML files and command lines; a mistake is one line and status 2."""

from __future__ import annotations

import itertools
import logging
import sys
from argparse import SUPPRESS, Action
from collections.abc import Mapping, Sequence
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import yaml
from jsonargparse import ArgumentParser, DefaultHelpFormatter, Namespace

from amodal_diffusion.basics import InputError
from amodal_diffusion.format_1 import settings_of_format_1
from amodal_diffusion.mistakes import explain

_OF_ACCELERATE = {"compute_environment", "distributed_type", "num_processes"}
T = TypeVar("T")
logger = logging.getLogger(__name__)


class HelpFormatter(DefaultHelpFormatter):
    """Help without types, and with a default only where it says something."""

    def _get_help_string(self, action: Action) -> str:
        default = action.default
        if not action.option_strings or default in (None, False, "", (), SUPPRESS) or default == []:
            return action.help or ""
        shown = ",".join(map(str, default)) if isinstance(default, tuple) else default
        return f"{action.help} (default: {str(shown).replace('%', '%%')})"


class CommandParser(ArgumentParser):
    """A jsonargparse parser whose mistakes are one line and whose flags beat `--config` in any order."""

    def __init__(self, **settings: Any) -> None:  # noqa: ANN401 - argparse's own constructor arguments
        """Build the parser; a shortened flag is refused like any other unknown one."""
        self.advanced: set[str] = set()  # destinations that `--help` leaves out
        self.renamed: dict[str, str | Mapping[str, Sequence[str]]] = {}  # hidden options of an earlier version
        self.moved: Mapping[str, str] = {}  # for names that are refused, what to do instead
        self.stray: str | None = None  # option that a value without an option's name may be meant for
        super().__init__(**{"allow_abbrev": False, "formatter_class": HelpFormatter, **settings})

    def parse_args(  # type: ignore[override]  # argparse's overloads, of which only one is meant here
        self,
        args: Sequence[str] | None = None,
        namespace: Namespace | None = None,
        **settings: Any,  # noqa: ANN401
    ) -> Namespace:
        """Parse a command line, see :meth:`prepare`."""
        return super().parse_args(self.prepare(sys.argv[1:] if args is None else args), namespace, **settings)

    def prepare(self, args: Sequence[str]) -> list[str]:
        """Put a command line into the form that the parser reads.

        Options of an earlier version become today's, a bare truth flag means true, and the files of ``--config`` come
        before any flag, so that flags beat files in any order.

        Args:
            args: the command line of this parser, without the names of programs and subcommands.
        """
        completed = self._complete_flags(self._rename(args))
        if "--config" not in self._option_string_actions:
            return completed
        return _files_first(completed, ["--config", *(f"--{group}" for group in self.groups or ())])

    def format_help(self, *formatter: Any) -> str:  # noqa: ANN401 - jsonargparse's own
        """The help without the options in ``advanced``."""
        hidden = [action for action in self._actions if action.dest in self.advanced]
        texts = [action.help for action in hidden]
        for action in hidden:
            action.help = SUPPRESS
        try:
            return super().format_help(*formatter)
        finally:
            for action, text in zip(hidden, texts, strict=True):
                action.help = text

    def format_full_help(self) -> str:
        """The help with all options."""
        return super().format_help()

    def _rename(self, args: Sequence[str]) -> list[str]:
        """Replace options of an earlier version, by name or by name and value."""
        current: list[str] = []
        remaining = iter(args)
        for argument in remaining:
            flag, equals, value = argument.partition("=")
            new = self.renamed.get(flag)
            if new is None:
                current.append(argument)
            elif isinstance(new, str):
                current.append(new + equals + value)
            else:
                value = value if equals else next(remaining, "")
                if value not in new:
                    self.error(f"{flag}: expected one of {', '.join(new)}, got {value or 'nothing'}")
                current += new[value]
        return current

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Print one line and exit with status 2, or raise where the parser does not exit on errors.

        Args:
            message: what is wrong, in jsonargparse's words.
            ex: its cause.

        Raises:
            InputError: if the parser was made with ``exit_on_error=False``.
        """
        line = explain(message, self, moved=self.moved, stray=self.stray)
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
                spellings = ["--" + flag[2:].replace("-", "_"), "--" + flag[2:].replace("_", "-")]
                flag = next((name for name in spellings if name in self._option_string_actions), flag)
            action = self._option_string_actions.get(flag)
            if action is None:
                completed.append(argument)
            elif getattr(action, "_typehint", None) is bool and not equals and following.startswith("--"):
                completed.append(f"{flag}=true")
            else:
                completed.append(flag + equals + value)
        return completed


class SettingsParser(CommandParser):
    """A parser of settings, whose YAML files may have keys of version 0.1."""

    def parse_string(self, content: str, path: str = "", **settings: Any) -> Any:  # noqa: ANN401
        """Parse the content of a YAML file; a notice names the keys of version 0.1 and what they are called now.

        Args:
            content: YAML.
            path: the file's name, for messages.
            settings: jsonargparse's own.
        """
        values = None
        try:
            values = yaml.safe_load(content)
            today, renamed = settings_of_format_1(values) if isinstance(values, dict) else (values, {})
        except yaml.YAMLError:
            today, renamed = None, {}  # the parser's own error names the line
        except InputError as error:
            self.error(f"{path}: {error}", error)
        if isinstance(values, dict) and _OF_ACCELERATE & values.keys():
            self.error(
                f"{path}: this is an Accelerate launch file; give it as --config_file of accelerate launch, and a file "
                "such as configs/debug_cpu.yaml here"
            )
        if renamed:
            names = ", ".join(f"{old} is now {new}" for old, new in renamed.items())
            logger.warning("%s: written for version 0.1; %s", path, names)
            content = yaml.safe_dump(today, sort_keys=False)
        parsed: Namespace = super().parse_string(content, path, **settings)
        return parsed


def parse_settings(cls: type[T], args: Sequence[str], *, prog: str | None = None, description: str | None = None) -> T:
    """Read settings from a command line: the dataclass's defaults, then YAML, then flags.

    Args:
        cls: a dataclass, whose fields may be dataclasses; ``--data.frames 8`` sets one of those. Its ``MOVED``, if it
            has one, says what to give in place of keys that it no longer has.
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
    parser = SettingsParser(**settings)
    parser.moved = getattr(cls, "MOVED", {})
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
