"""Mistakes on a command line or in a YAML file, which argparse and jsonargparse find, in one line for users."""

from __future__ import annotations

import difflib
import re
from argparse import Action, ArgumentParser
from collections.abc import Mapping

# How jsonargparse words an unknown flag or key; the groups hold the enclosing key, if any, and the key.
_UNKNOWN = (
    re.compile(r"^unrecognized arguments: (?P<key>--[^\s=]+)"),
    re.compile(r"^Group '(?P<group>[^']+)' does not accept option '(?P<key>[^']+)'"),
    re.compile(r"^Option '(?P<key>[^']+)' is not accepted"),
)
_STRAY = re.compile(r"^unrecognized arguments: (?P<key>[^-\s]\S*)")
_MISSING = re.compile(r"^the following arguments are required: (?P<keys>.*)$")
_OR_NONE = re.compile(
    r"Does not validate against any of the Union subtypes.*?"
    r"Errors:\s+- (?P<first>.*?)\s+- Expected a <class 'NoneType'>"
    r".*?Given value: (?P<value>.*)$",
    re.DOTALL,
)
_CHOICE = re.compile(
    r"^(?:argument )?(?P<name>[\w-]+): invalid choice: '?(?P<value>[^']*?)'? \(choose from (?P<known>.*)\)$"
)
_ARGUMENT = re.compile(r"^argument (?P<flag>--[\w-]+: )(?P=flag)?")
_WRONG_TYPE = re.compile(r'^Parser key "(?P<key>[^"]+)":\s+(?P<rest>.*)$', re.DOTALL)
_NUMBER = re.compile(r"^Not of type (?P<type>\w+): (?P<rest>.*)$", re.DOTALL)
_PLAIN = re.compile(r"^Expected a <class '(?P<type>\w+)'>(?:\. Got value: |, got )(?P<value>.*)$", re.DOTALL)
_VALUE = re.compile(r"(?:, got (?P<last>.*)|: (?P<quoted>'.*')|^(?P<first>\S+) does not conform .*)$")
_QUOTE = "'"
_PLAIN_TYPES = {"float": "a number", "int": "a whole number", "bool": "true or false", "str": "text"}
_NUMBERS = {
    "PositiveInt": "a whole number, at least 1",
    "NonNegativeInt": "a whole number, at least 0",
    "PositiveFloat": "a number above 0",
    "NonNegativeFloat": "a number, at least 0",
}


def explain(message: str, parser: ArgumentParser, *, moved: Mapping[str, str], stray: str | None = None) -> str:
    """Reword a parser's message into one line; an unknown name gets the nearest known one.

    Args:
        message: in jsonargparse's or argparse's words.
        parser: that found the mistake.
        moved: what to say of unknown names, without dashes; others get the nearest known name.
        stray: option that takes what was given without an option's name, such as ``--masks``.
    """
    for pattern in _UNKNOWN:
        match = pattern.match(message)
        if match:
            found = match.groupdict()
            key = ".".join(part for part in (found.get("group"), found["key"]) if part)
            return f"{key}: unknown; {moved.get(key.removeprefix('--')) or _nearest(key, parser)}"
    match = _STRAY.match(message)
    if match:
        hint = "give the name of an option before it"
        if stray:
            hint = f"did you mean {stray} {match['key']}? A path that has spaces needs quotes"
        return f"{match['key']}: unexpected; {hint}"
    match = _MISSING.match(message)
    if match:
        return _missing(match["keys"].split(", "), parser)
    match = _CHOICE.match(message)
    if match:
        return _not_among(match["name"], match["value"], re.findall(r"[^',\s]+", match["known"]))
    match = _WRONG_TYPE.match(message)
    if match:
        message = _wrong_type(match["key"], _OR_NONE.sub(_first_and_value, match["rest"]), parser)
    return " ".join(_ARGUMENT.sub(r"\g<flag>", message).split())


def _nearest(key: str, parser: ArgumentParser) -> str:
    """Name the known flag or key that is most like an unknown one, by its whole name or its last part."""
    flag = key.startswith("--")
    known = sorted(
        option.removeprefix("--")
        for option in parser._option_string_actions  # argparse has no public list of them
        if option.startswith("--") and not option.endswith("+")
    )
    if not known:
        return "no options are known here"
    name = key.removeprefix("--")

    def likeness(candidate: str) -> float:
        last = difflib.SequenceMatcher(None, name.rsplit(".", 1)[-1], candidate.rsplit(".", 1)[-1]).ratio()
        return difflib.SequenceMatcher(None, name, candidate).ratio() + last

    return f"did you mean {'--' if flag else ''}{max(known, key=likeness)}?"


def _not_among(name: str, value: str, known: list[str]) -> str:
    """Name the choice that is most like the given one, or all of them."""
    nearest = difflib.get_close_matches(value, known, n=1)
    if name == "command":
        hint = f"did you mean {nearest[0]}?" if nearest else f"the commands are {', '.join(known)}"
        return f"{value}: no command has this name; {hint}"
    hint = f"; did you mean {nearest[0]}?" if nearest else ""
    return f"{name}: expected one of {', '.join(known)}, got {value}{hint}"


def _missing(keys: list[str], parser: ArgumentParser) -> str:
    """Say what is missing, by what the help calls it: ``complete: expected CLIP, a video file``."""
    command, dot, _ = keys[0].partition(".")
    choices = next((action.choices for action in parser._actions if isinstance(action.choices, Mapping)), {})
    inner = choices.get(command) if dot else None
    if not isinstance(inner, ArgumentParser):
        return f"expected {', '.join(keys)}"
    actions = {action.dest: action for action in inner._actions}
    wanted = [_called(actions[name]) for name in (key.partition(".")[2] for key in keys)]
    if len(wanted) == 1:
        return f"{command}: expected {wanted[0][0]}, {wanted[0][1]}"
    return f"{command}: expected {' and '.join(f'{name} ({text})' for name, text in wanted)}"


def _called(action: Action) -> tuple[str, str]:
    """What the help calls an argument, and its description."""
    value = str(action.metavar or action.dest.upper())
    flags = [option for option in action.option_strings if option.startswith("--")]
    return " ".join([*flags[:1], value]), action.help or ""


def _wrong_type(key: str, rest: str, parser: ArgumentParser) -> str:
    """Name the option whose value has a wrong type, and say in words what numbers it takes."""
    flag = f"--{key.replace('_', '-')}"
    name = flag if flag in parser._option_string_actions and "." not in key else key
    plain = _PLAIN.match(" ".join(rest.split()))
    if plain and plain["type"] in _PLAIN_TYPES:
        return f"{name}: expected {_PLAIN_TYPES[plain['type']]}, got '{plain['value'].strip(_QUOTE)}'"
    number = _NUMBER.match(rest)
    found = number and _VALUE.search(number["rest"])
    if not number or not found or number["type"] not in _NUMBERS:
        return f"{name}: {rest}"
    value = found["last"] or found["quoted"] or found["first"]
    return f"{name}: expected {_NUMBERS[number['type']]}, got '{value.strip(_QUOTE)}'"


def _first_and_value(match: re.Match[str]) -> str:
    """What a value that may be None is held against, without the words on None."""
    return f"{match['first']}, got {match['value']}"
