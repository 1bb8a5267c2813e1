"""Seeded mutations of the files of every reader: each is read, or refused in one line.

    python benchmarks/fuzz.py --files 5000 --seed 0

A small right file is damaged and read by a child process, forked from one process that has imported everything. A child
may read it or raise InputError with one line. It may not end by a signal, raise anything else, take more than
`--seconds` of the processor, or more than 2 GiB of memory. Every file follows from the seed, the reader's name and its
number: `--only masks --number 17` reads this one again, `--keep FOLDER` keeps the files that fail. Linux.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import random
import resource
import select
import shutil
import signal
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from reliability.mutation import files_below, mutate
from reliability.readers import READERS, Reader

from amodal_diffusion.basics import InputError
from amodal_diffusion.models.libraries import quieten_libraries

GOOD = ("read", "refused")
BAD = ("traceback", "many lines", "signal", "hang", "memory")
MEMORY = 2 * 2**30
_RESERVED = 2 * MEMORY  # address space beside the parent's; libraries reserve more than they use
_WAIT = 10  # seconds of wall time for each second of the processor, on a busy machine


@dataclass(frozen=True)
class Outcome:
    """How a child ended.

    Attributes:
        kind: of `GOOD` or `BAD`.
        text: message or signal.
    """

    kind: str
    text: str = ""


def main() -> None:
    """Read the files and print the table; the exit status is 1 if a reader failed."""
    args = _arguments()
    readers = [reader for reader in READERS if args.only in (None, reader.name)]
    quieten_libraries(quiet=True)
    counts: dict[str, Counter[str]] = {reader.name: Counter() for reader in readers}
    failures = []
    with tempfile.TemporaryDirectory() as folder:
        for place, reader in enumerate(readers):
            samples = make_samples(reader, Path(folder) / reader.name)
            share = args.files // len(readers) + (place < args.files % len(readers))
            for number in range(share) if args.number is None else [args.number]:
                case = damaged(samples, Path(folder) / "case", random.Random(f"{args.seed} {reader.name} {number}"))
                outcome = read_in_child(reader, case, seconds=args.seconds)
                counts[reader.name][outcome.kind] += 1
                if args.number is not None:
                    print(f"{reader.name} {number} ({case.name}): {outcome.kind}: {outcome.text}")
                if outcome.kind in BAD:
                    failures.append(f"{reader.name} {number} ({case.name}): {outcome.kind}: {outcome.text}")
                    print(failures[-1], file=sys.stderr, flush=True)
                    if args.keep:
                        shutil.copytree(case.parent, args.keep / f"{reader.name}-{number}", dirs_exist_ok=True)
    print(table(counts))
    print("\n".join(["", *failures]) if failures else "")
    total = sum(sum(counter.values()) for counter in counts.values())
    print(f"{total} files, {len(failures)} failures, seed {args.seed}")
    sys.exit(bool(failures))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=5000, help="mutated files, shared among the readers")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=[reader.name for reader in READERS], help="one reader")
    parser.add_argument("--number", type=int, help="one file of each reader, such as one that failed")
    parser.add_argument("--seconds", type=int, default=20, help="of the processor, for each file")
    parser.add_argument("--keep", type=Path, help="folder for the files that fail")
    return parser.parse_args()


def make_samples(reader: Reader, folder: Path) -> list[Path]:
    """Write the right inputs of a reader, in a child: encoders leave threads behind, which a fork must not meet.

    Args:
        reader: what reads them.
        folder: is made.

    Returns:
        files and folders, in order.

    Raises:
        RuntimeError: if they cannot be written.
    """
    folder.mkdir()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            reader.make(folder)
            status = 0
        except BaseException:  # noqa: BLE001 - a child must not go on with the parent's work
            traceback.print_exc()
        finally:
            os._exit(status)
    if os.waitpid(child, 0)[1]:
        raise RuntimeError(f"the files of {reader.name} cannot be written")
    return sorted(folder.iterdir())


def damaged(samples: Sequence[Path], folder: Path, rng: random.Random) -> Path:
    """A copy of one of the samples with one damaged file; the others are links.

    Args:
        samples: files and folders.
        folder: is made anew.
        rng: decides.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    sample = rng.choice(samples)
    files = files_below(sample)
    chosen = rng.choice(files)
    for file in files:
        target = folder / file.relative_to(sample.parent)
        target.parent.mkdir(parents=True, exist_ok=True)
        if file == chosen:
            target.write_bytes(mutate(file.read_bytes(), file.suffix, rng))
        else:
            target.symlink_to(file)
    return folder / sample.name


def read_in_child(reader: Reader, case: Path, *, seconds: int) -> Outcome:
    """Read a damaged input in a process of its own.

    Args:
        reader: what reads it.
        case: file or folder.
        seconds: of the processor.
    """
    told, tell = os.pipe()
    pages = _resident()
    child = os.fork()
    if child == 0:
        os.close(told)
        _run_child(reader, case, tell, seconds)
    os.close(tell)
    descriptor = os.pidfd_open(child)
    ended, _, _ = select.select([descriptor], [], [], seconds * _WAIT)
    if not ended:
        os.kill(child, signal.SIGKILL)
    _, status, usage = os.wait4(child, 0)
    with os.fdopen(told, "rb") as pipe:
        text = pipe.read()
    os.close(descriptor)
    if not ended:
        return Outcome("hang", f"{seconds * _WAIT} s")
    number = os.waitstatus_to_exitcode(status)
    if number == -signal.SIGXCPU:
        return Outcome("hang", f"{seconds} s of the processor")
    if number or not text:
        return Outcome("signal", signal.Signals(-number).name if number < 0 else f"exit status {number}")
    grown = usage.ru_maxrss * 1024 - pages
    if grown > MEMORY:
        return Outcome("memory", f"{grown / 2**30:.1f} GiB")
    return Outcome(**json.loads(text))


def _resident() -> int:
    """Bytes of memory that this process has."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def _run_child(reader: Reader, case: Path, tell: int, seconds: int) -> None:
    """Read, tell how it went, and end."""
    try:
        null = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(null, stream)
        logging.disable()
        reserved = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (reserved + _RESERVED,) * 2)
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 5))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        outcome = _outcome(reader, case)
        os.write(tell, json.dumps({"kind": outcome.kind, "text": outcome.text[:2000]}).encode())
    finally:
        os._exit(0)


def _outcome(reader: Reader, case: Path) -> Outcome:
    try:
        reader.read(case)
    except InputError as error:
        return Outcome("many lines" if "\n" in str(error) else "refused", str(error))
    except MemoryError:
        return Outcome("memory", _last_line())
    except BaseException as error:  # noqa: BLE001 - all of them are failures
        return Outcome("traceback", f"{type(error).__name__}: {str(error)[:300]} {_last_line()}")
    return Outcome("read")


def _last_line() -> str:
    """Where in the package the current exception came from."""
    frames = traceback.extract_tb(sys.exc_info()[2])
    own = [frame for frame in frames if "amodal_diffusion/" in frame.filename] or frames
    return f"({Path(own[-1].filename).name}:{own[-1].lineno})"


def table(counts: dict[str, Counter[str]]) -> str:
    """Readers and how many files ended in which way, in Markdown."""
    kinds = (*GOOD, *BAD)
    lines = [f"| reader | files | {' | '.join(kinds)} |", f"| --- |{' ---: |' * (len(kinds) + 1)}"]
    total: Counter[str] = sum(counts.values(), Counter())
    for name, counter in [*counts.items(), ("all", total)]:
        lines.append(f"| {name} | {sum(counter.values())} | {' | '.join(str(counter[kind]) for kind in kinds)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
