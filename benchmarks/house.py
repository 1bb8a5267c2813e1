"""Print how the house stands: sizes of files and functions, the way from a command to the UNet, options, words."""

from __future__ import annotations

import argparse
import ast
import contextlib
import io
import re
import runpy
import sys
import tempfile
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from types import FrameType

import torch
from PIL import Image
from torch.nn.modules.module import register_module_forward_pre_hook

import amodal_diffusion
from amodal_diffusion.cli import main as run_command
from amodal_diffusion.synthetic import make_scene

PACKAGE = Path(amodal_diffusion.__file__).resolve().parent
ROOT = PACKAGE.parent
SHORT, LONG_FUNCTION, MANY_PARAMETERS = 60, 80, 6
SETTINGS_NAMES = ("SamplingConfig", "SamplingDefaults")
UNET = "UNetSpatioTemporalConditionModel"
OPTION = re.compile(r"^  (?:-\w(?: \S+)?, )?(--[\w-]+)")
BAD_HELP = re.compile(r"<class '|default: null")


class Reached(BaseException):
    """Ends a run once its UNet is called; no handler of ordinary errors takes it for one."""


def package_files() -> list[Path]:
    """All modules of the package but `__init__.py` and the thin ones of `commands/`."""
    return sorted(
        path
        for path in PACKAGE.rglob("*.py")
        if path.name != "__init__.py" and path.relative_to(PACKAGE).parts[0] != "commands"
    )


def length(path: Path) -> int:
    """Number of lines of a text file."""
    return len(path.read_text(encoding="utf-8").splitlines())


def print_files() -> None:
    """Print how many files there are and how long they are."""
    lengths = {path.relative_to(PACKAGE): length(path) for path in package_files()}
    short = [f"{path} {lines}" for path, lines in lengths.items() if lines < SHORT]
    longest = sorted(lengths.items(), key=lambda item: -item[1])[:10]
    print(f"package files              {len(lengths)}")
    print(f"median lines               {median(lengths.values()):.0f}")
    print(f"files below {SHORT} lines       {len(short)}: {', '.join(short)}")
    print(f"ten longest files          {', '.join(f'{path} {lines}' for path, lines in longest)}")
    for folder in ("training", "evaluation"):
        print(f"files in {folder + '/':18}{sum(path.parts[0] == folder for path in lengths)}")


def functions() -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Every function of the package with the place where it stands."""
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                yield f"{path.relative_to(PACKAGE)}:{node.name}", node


def print_functions() -> None:
    """Print which functions are longer, or take more, than the style card allows."""
    long, wide = [], []
    for place, node in functions():
        lines = (node.end_lineno or node.lineno) - node.lineno + 1
        arguments = [a.arg for a in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
        parameters = len([name for name in arguments if name not in ("self", "cls")])
        long += [(lines, place)] if lines > LONG_FUNCTION else []
        wide += [(parameters, place)] if parameters > MANY_PARAMETERS else []
    for title, found in ((f"functions above {LONG_FUNCTION} lines", long), ("functions above 6 parameters", wide)):
        listed = ", ".join(f"{place} {count}" for count, place in sorted(found, reverse=True))
        print(f"{title:27}{len(found)}{': ' * bool(found)}{listed}")


def print_settings() -> None:
    """Print which modules name the settings of sampling."""
    pattern = re.compile(rf"\b(?:{'|'.join(SETTINGS_NAMES)})\b")
    found = [
        str(path.relative_to(PACKAGE))
        for path in sorted(PACKAGE.rglob("*.py"))
        if pattern.search(path.read_text(encoding="utf-8"))
    ]
    print(f"modules that name settings {len(found)}: {', '.join(found)}")


def frames_in_package() -> list[str]:
    """The functions of the package that are on the stack, outermost first."""
    stacks = [sys._current_frames()[threading.get_ident()]]
    if threading.current_thread() is not threading.main_thread():
        stacks.insert(0, sys._current_frames()[threading.main_thread().ident or 0])
    return [line for top in stacks for line in reversed(list(_named(top)))]


def _named(frame: FrameType) -> Iterator[str]:
    for entry, _ in traceback.walk_stack(frame):
        path = Path(entry.f_code.co_filename)
        if path.is_relative_to(PACKAGE):
            yield f"{path.relative_to(PACKAGE)}:{entry.f_code.co_qualname}"


def stacks_at_unet(run: Callable[[], object], *, first_only: bool) -> list[list[str]]:
    """Run something and note the stack at the first call of each UNet.

    Args:
        run: what calls a UNet.
        first_only: end the run there.
    """
    found: dict[int, list[str]] = {}

    def note(module: torch.nn.Module, _: object) -> None:
        if type(module).__name__ == UNET and id(module) not in found:
            found[id(module)] = frames_in_package()
            if first_only:
                raise Reached

    hook = register_module_forward_pre_hook(note)
    try:
        with (
            contextlib.suppress(Reached, SystemExit),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
            warnings.catch_warnings(action="ignore"),
        ):
            run()
    finally:
        hook.remove()
    return list(found.values())


def complete_a_clip(folder: Path) -> None:
    """Complete a small generated clip with the bundled model, both of its networks asked."""
    scene = make_scene(0, split="validation", frames=2, height=32, width=64)
    for name, pictures in (("rgb", scene.rgb), ("modal", scene.target.modal)):
        (folder / name).mkdir()
        for index, picture in enumerate(() if pictures is None else pictures):
            Image.fromarray(picture).save(folder / name / f"{index:05d}.png")
    options = ["--masks", str(folder / "modal"), "--out", str(folder / "out"), "--device", "cpu", "-q"]
    off = ["--no-color-propagation"] if "--no-color-propagation" in help_of("complete") else ["--copies", "off"]
    run_command(["complete", str(folder / "rgb"), *options, *off])


def train_a_step(folder: Path) -> None:
    """Start the debug run of stage 1 by the script that shows it."""
    script = ROOT / "train/train_amodal_segmentation.py"
    sys.argv = [str(script), "--config", str(ROOT / "configs/debug_cpu.yaml"), "--output", str(folder / "run")]
    runpy.run_path(str(script), run_name="__main__")


def print_stacks() -> None:
    """Print the functions of the package between a command and the call of the UNet."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        inference = stacks_at_unet(lambda: complete_a_clip(folder), first_only=False)
        training = stacks_at_unet(lambda: train_a_step(folder), first_only=True)
    titles = [f"inference, stage {number}" for number in range(1, len(inference) + 1)]
    for title, stack in zip([*titles, "training"], [*inference, *training], strict=True):
        print(f"functions to the UNet, {title}: {len(stack)}")
        print(*(f"    {line}" for line in stack), sep="\n")


def help_of(command: str, flag: str = "--help") -> str:
    """What a subcommand prints as its help; empty where it has no such flag."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        try:
            run_command([command, flag])
        except SystemExit as stop:
            return printed.getvalue() if stop.code in (0, None) else ""
    return printed.getvalue()


def options_in(text: str) -> list[str]:
    """Options that a help text lists, `--help` aside."""
    found = [match[1] for line in text.splitlines() if (match := OPTION.match(line))]
    return [option for option in found if option not in ("--help", "--help-all")]


def print_commands() -> None:
    """Print how many options `complete` has, and where help shows types and nulls that tell a user nothing."""
    shown, everything = options_in(help_of("complete")), options_in(help_of("complete", "--help-all"))
    print(f"options in --help          {len(shown)}")
    print(f"options in --help-all      {len(everything) or 'no such list'}")
    bad = []
    for path in sorted((PACKAGE / "commands").glob("[a-z]*.py")):
        for flag in ("--help", "--help-all"):
            # argparse breaks lines anywhere
            text = " ".join(help_of(path.stem, flag).split())
            bad += [f"{path.stem} {flag}: {len(hits)}" for hits in [BAD_HELP.findall(text)] if hits]
    print(f"help with types and nulls  {len(bad)} pages{': ' * bool(bad)}{', '.join(bad)}")


def print_words() -> None:
    """Print the size of the README."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    print(f"README                     {len(text.splitlines())} lines, {len(text.split())} words")


def main() -> None:
    """Print the report."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    print_files()
    print_functions()
    print_settings()
    print_commands()
    print_words()
    print_stacks()


if __name__ == "__main__":
    main()
