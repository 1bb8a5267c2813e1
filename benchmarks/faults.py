"""A campaign of seeded faults: each command is disturbed again and again, and nothing may be lost or wrong.

    python benchmarks/faults.py --cases 1000 --work runs/faults

Allowed after a fault: the right result; or an error of one line (or an end by the signal) with all that existed intact,
after which the same command gives the bytes of an undisturbed run. For a damaged input the right result is what a clean
process makes of the same file; damage must be noticed where a checksum exists. The campaign goes on where it stopped
and adds up its pieces. Linux.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import shutil
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from reliability.commands import COMMANDS, Command, contents, make_inputs
from reliability.injection import FileEvents, Reads, flip_bits, limit_files, small_disk
from reliability.wrong_masks import spoil_masks

KINDS = ("SIGKILL", "SIGTERM", "disk full", "read error", "damaged file", "wrong masks", "two at once")
GOOD = ("right", "refused", "ended")
STALLED, LONGEST = 60, 600  # seconds without any work of the processor, and in all
CRASHED = 70
Files = dict[str, bytes]


@dataclass(frozen=True)
class Undisturbed:
    """What a command does when nothing disturbs it.

    Attributes:
        result: its files.
        old: files of the result of another seed, which `overwrites` replaces.
        events: what it does to files.
        reads: files that it opens for reading.
        seconds: how long it takes.
    """

    result: Files
    old: Files
    events: int
    reads: int
    seconds: float


@dataclass(frozen=True)
class Ended:
    """How a process ended: its exit status, negative for a signal; None for a hang; what it wrote to stderr."""

    status: int | None
    stderr: str


@dataclass
class Case:
    """One fault.

    Attributes:
        command: what is disturbed.
        kind: of `KINDS`.
        folder: inputs and results, a copy of its own.
        rng: decides where.
        state: ``fresh``, ``half`` (an interrupted run) or ``old`` (a finished result of another seed).
    """

    command: Command
    kind: str
    folder: Path
    rng: np.random.Generator
    state: str


@dataclass(frozen=True)
class Process:
    """A forked process and the end of a pipe from which its stderr is read; a limit on files does not cut a pipe."""

    number: int
    stderr: int


def start(work: Callable[[], int], folder: Path) -> Process:
    """Run something in a forked process, in a folder."""
    sys.stdout.flush()
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 2**20)
    number = os.fork()
    if number:
        os.close(writing)
        os.set_blocking(reading, False)
        return Process(number, reading)
    status = CRASHED
    try:
        os.setsid()
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(writing, 2)
        os.set_blocking(2, False)
        os.chdir(folder)
        status = work()
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else CRASHED
    except BaseException:  # noqa: BLE001 - a command that raises is what the campaign looks for
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def wait(process: Process) -> Ended:
    """Wait for a process; one that does nothing for `STALLED` seconds is killed."""
    number = process.number
    began = moved = time.monotonic()
    spent = -1
    status: int | None = None
    while status is None:
        found, code = os.waitpid(number, os.WNOHANG)
        if found:
            status = os.waitstatus_to_exitcode(code)
            break
        now, total = time.monotonic(), _processor_time(number)
        if total != spent:
            spent, moved = total, now
        if now - moved > STALLED or now - began > LONGEST:
            os.killpg(number, signal.SIGKILL)
            os.waitpid(number, 0)
            break
        time.sleep(0.01)
    with os.fdopen(process.stderr, "rb") as pipe:
        said = pipe.read() or b""
    return Ended(status, said.decode(errors="replace"))


def _processor_time(number: int) -> int:
    """Ticks of a process and of what it waited for."""
    try:
        fields = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return sum(map(int, fields[11:15]))


def run(work: Callable[[], int], folder: Path) -> Ended:
    """Run something in a process of its own, to its end."""
    return wait(start(work, folder))


def prepare(work: Path) -> dict[str, Undisturbed]:
    """Make the inputs, and run every command undisturbed, and once with another seed."""
    base = work / "base"
    if not (base / "ready").exists():
        shutil.rmtree(base, ignore_errors=True)
        (base / "inputs").mkdir(parents=True)
        ended = run(lambda: make_inputs(base / "inputs") or 0, base / "inputs")
        if ended.status:
            raise SystemExit(f"inputs: {ended}")
        (base / "ready").touch()
    return {command.name: _undisturbed(command, base) for command in COMMANDS}


def _undisturbed(command: Command, base: Path) -> Undisturbed:
    counts = base / f"{command.name}.json"

    def count(folder: Path) -> int:
        events, reads = FileEvents(folder), Reads(folder)
        began = time.monotonic()
        status = command.run(0)
        counts.write_text(json.dumps([events.count, reads.count, time.monotonic() - began]))
        return status

    results = []
    for state, seed in (("whole", 0), ("old", 1)):
        folder = base / f"{command.name}_{state}"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(base / "inputs", folder)
        ended = run(lambda folder=folder, seed=seed: command.run(1) if seed else count(folder), folder)  # type: ignore[misc]
        if ended.status:
            raise SystemExit(f"{command.name}: {ended}")
        results.append(contents(folder, command.result))
    events, reads, seconds = json.loads(counts.read_text())
    return Undisturbed(results[0], results[1], events, reads, seconds)


def _dying(command: Command, folder: Path, place: int, number: int) -> int:
    FileEvents(folder).die_at(place, number)
    return command.run(0)


def disturb(case: Case, usual: Undisturbed) -> list[Ended]:
    """Let the command run with the fault; a damaged input is damaged before it."""
    command, folder, rng = case.command, case.folder, case.rng
    if case.kind in ("SIGKILL", "SIGTERM"):
        number = signal.SIGKILL if case.kind == "SIGKILL" else signal.SIGTERM
        if rng.random() < 0.6:
            place = int(rng.integers(1, usual.events + 1))
            return [run(lambda: _dying(command, folder, place, number), folder)]
        process = start(lambda: command.run(0), folder)
        time.sleep(float(rng.random()) * usual.seconds * 1.2)
        os.kill(process.number, number)
        return [wait(process)]
    if case.kind == "disk full":
        return [_run_without_room(case)]
    if case.kind == "read error":
        place = int(rng.integers(1, usual.reads + 1))

        def failing() -> int:
            Reads(folder).fail_at(place)
            return command.run(0)

        return [run(failing, folder)]
    if case.kind == "two at once":
        processes = [start(lambda: command.run(0), folder) for _ in range(2)]
        return [wait(process) for process in processes]
    return [run(lambda: command.run(0), folder)]


def _run_without_room(case: Case) -> Ended:
    """Limit the size of a file, or put the folder on a disk that is nearly full."""
    size = int(10 ** case.rng.uniform(0, 5.5))
    full = case.rng.random() < 0.5

    def work() -> int:
        with small_disk(case.folder, size) if full else nullcontext():
            os.chdir(case.folder)
            if not full:
                limit_files(size)
            return case.command.run(0)

    ended = run(work, case.folder)
    kept = case.folder.with_name(case.folder.name + ".kept")
    if kept.exists():
        shutil.rmtree(case.folder)
        kept.rename(case.folder)
    return ended


@dataclass(frozen=True)
class Damage:
    """A damaged file.

    Attributes:
        path: the file.
        sound: content before.
        spoiled: content since.
    """

    path: Path
    sound: bytes
    spoiled: bytes


def damage(case: Case, inputs: Path) -> Damage | None:
    """Damage one file for the kinds of fault that are there before the command; returns it."""
    folder, rng = case.folder, case.rng
    if case.kind == "wrong masks":
        spoil_masks(folder, case.command.masks, rng)
        return None
    if case.kind != "damaged file":
        return None
    read = sorted({path for pattern in case.command.inputs for path in folder.glob(pattern) if path.is_file()})
    own = sorted(
        path for path in folder.rglob("*") if path.is_file() and not (inputs / path.relative_to(folder)).exists()
    )
    own = [path for path in own if not str(path.relative_to(folder)).startswith(case.command.result)]
    files = own if own and rng.random() < 0.6 else read
    chosen = files[int(rng.integers(len(files)))]
    sound = chosen.read_bytes()
    flip_bits(chosen, rng)
    return Damage(chosen, sound, chosen.read_bytes())


def judge(
    case: Case, usual: Undisturbed, damaged: Damage | None, ends: Sequence[Ended], base: Path, before: Files
) -> str:
    """What came of a fault, in a word or two; those of `GOOD` are no loss."""
    for end in ends:
        if end.status is None:
            return "hang"
        if end.status == CRASHED or "Traceback (most recent call last)" in end.stderr:
            return "traceback"
    found = contents(case.folder, case.command.result)
    statuses = [end.status for end in ends]
    if any(status < 0 and status not in (-signal.SIGKILL, -signal.SIGTERM) for status in statuses if status):
        return "crash"
    if 0 in statuses and found:
        if found == usual.result:
            return "right"
        if case.kind not in ("damaged file", "wrong masks"):
            return "wrong result"
        if damaged is not None and has_checksum(damaged.path):
            return "unnoticed damage"
        clean = _clean(case, base)
        same = all(found.get(name) == data for name, data in clean.items())  # a cache also has its earlier entries
        return "right" if same and (case.command.entries or found == clean) else "wrong result"
    if found != before and not _intact(case, found, usual):
        return "lost"
    return _again(case, usual, base, damaged)


def has_checksum(path: Path) -> bool:
    """Whether damage to a file can be noticed: PNG has checksums; models, checkpoints and caches have digests."""
    if path.name == "checkpoint.json":  # settings, which may be edited
        return False
    return path.suffix == ".png" or not {"checkpoints", "cache", "models"}.isdisjoint(path.parts)


def _clean(case: Case, base: Path) -> Files:
    """The result of a clean process on the same damaged inputs."""
    folder = case.folder.with_name(case.folder.name + ".clean")
    shutil.copytree(base / "inputs", folder)
    for path in folder.rglob("*"):
        same = case.folder / path.relative_to(folder)
        if path.is_file() and same.is_file():
            shutil.copyfile(same, path)
        elif path.is_file():
            path.unlink()
    for same in case.folder.rglob("*"):  # masks that were added
        path = folder / same.relative_to(case.folder)
        if same.is_file() and path.parent.is_dir() and not path.exists():
            shutil.copyfile(same, path)
    run(lambda: case.command.run(0), folder)
    found = contents(folder, case.command.result)
    shutil.rmtree(folder)
    return found


def _intact(case: Case, found: Files, usual: Undisturbed) -> bool:
    """Whether only whole results are there: the old one, the new one, or entries of the new one."""
    if case.state == "old":
        return found in (usual.old, usual.result)
    if case.command.entries:  # of damaged inputs they are others; so are records of what failed
        mended = case.kind in ("damaged file", "wrong masks")
        return mended or all(found.get(name, data) == data for name, data in usual.result.items())
    return not found or found == usual.result


def _again(case: Case, usual: Undisturbed, base: Path, damaged: Damage | None) -> str:
    """Take the fault away and run the same command again."""
    _repair(case, base, damaged)
    end = run(lambda: case.command.run(0), case.folder)
    if end.status is None:
        return "hang"
    if end.status:
        return f"does not go on: {end.stderr.strip()[-200:]}"
    found = contents(case.folder, case.command.result)
    if found == usual.result:
        return "refused"
    return f"other result: {[name for name in found | usual.result if found.get(name) != usual.result.get(name)][:4]}"


def _repair(case: Case, base: Path, damaged: Damage | None) -> None:
    if damaged is not None and damaged.path.is_file() and damaged.path.read_bytes() == damaged.spoiled:
        damaged.path.write_bytes(damaged.sound)
    for path in (base / "inputs").rglob("*"):
        if path.is_file():
            shutil.copy2(path, case.folder / path.relative_to(base / "inputs"))
    for path in list(case.folder.glob(case.command.masks)):
        if not (base / "inputs" / path.relative_to(case.folder)).exists():
            path.unlink()
    if case.kind in ("damaged file", "wrong masks") and case.command.entries:  # what was made of damaged files goes
        for part in case.command.result:
            shutil.rmtree(case.folder / part, ignore_errors=True)


def one_case(number: int, seed: int, usual: dict[str, Undisturbed], work: Path) -> dict[str, object]:
    """Do one case; a row of the record."""
    command = COMMANDS[number % len(COMMANDS)]
    kind = KINDS[number // len(COMMANDS) % len(KINDS)]
    rng = np.random.default_rng([seed, number])
    states = ["fresh", "half", "old"] if command.overwrites else ["fresh", "half"]
    state = states[int(rng.integers(len(states)))]
    folder = work / f"case{number:05d}"
    for left in work.glob(f"case{number:05d}*"):
        shutil.rmtree(left) if left.is_dir() else left.unlink()
    source = work / "base" / (f"{command.name}_old" if state == "old" else "inputs")
    shutil.copytree(source, folder)
    if state == "half":
        place = int(rng.integers(1, usual[command.name].events))
        run(lambda: _dying(command, folder, place, signal.SIGKILL), folder)
    case = Case(command, kind, folder, rng, state)
    damaged = damage(case, work / "base/inputs")
    before = contents(folder, command.result)
    ends = disturb(case, usual[command.name])
    outcome = judge(case, usual[command.name], damaged, ends, work / "base", before)
    row = {"case": number, "command": command.name, "kind": kind, "state": state, "outcome": outcome,
           "file": "" if damaged is None else str(damaged.path.relative_to(folder)),
           "said": [(end.status, end.stderr.strip()[-300:]) for end in ends]}  # fmt: skip
    if outcome in GOOD:
        for left in work.glob(f"case{number:05d}*"):
            shutil.rmtree(left) if left.is_dir() else left.unlink()
    return row


def numbers_to_do(record: Path, cases: int, worker: int, workers: int) -> Iterator[int]:
    """Cases that the record does not have, those of one worker."""
    done = {json.loads(line)["case"] for line in record.read_text().splitlines()} if record.exists() else set()
    return (number for number in range(cases) if number not in done and number % workers == worker)


def print_table(record: Path) -> int:
    """Print counts by kind and by command; returns the number of losses."""
    rows = [json.loads(line) for line in record.read_text().splitlines()]
    losses = [row for row in rows if row["outcome"] not in GOOD]
    for column in ("kind", "command"):
        print(f"| {column} | faults | right | refused, then right | losses |\n| --- | --- | --- | --- | --- |")
        for name in dict.fromkeys(row[column] for row in rows):
            tally = Counter(row["outcome"] for row in rows if row[column] == name)
            lost = sum(count for outcome, count in tally.items() if outcome not in GOOD)
            print(f"| {name} | {tally.total()} | {tally['right']} | {tally['refused']} | {lost} |")
        print()
    for row in losses:
        print(f"case {row['case']}: {row['command']}, {row['kind']}, {row['state']}, {row['file']}: {row['outcome']}")
    print(f"{len(rows)} faults, {len(losses)} losses")
    return len(losses)


def main() -> int:
    """Do what is left of the campaign and print the table; 1 if there were losses."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=1000, help="faults in all")
    parser.add_argument("--only", type=int, nargs="+", help="do these cases alone, again, and keep their folders")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2, help="processes that do cases at the same time")
    parser.add_argument("--work", type=Path, default=Path("runs/faults"), help="record and folders of the cases")
    args = parser.parse_args()
    torch.set_num_threads(1)
    work = args.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    record = work / f"record_{args.seed}.jsonl"
    usual = prepare(work)
    if args.only:
        for number in args.only:
            print(json.dumps(one_case(number, args.seed, usual, work), indent=1))
        return 0
    workers = []
    for worker in range(args.workers):
        number = os.fork()
        if number == 0:
            for case in numbers_to_do(record, args.cases, worker, args.workers):
                line = json.dumps(one_case(case, args.seed, usual, work))
                with record.open("a") as file:
                    file.write(line + "\n")
            os._exit(0)
        workers.append(number)
    for number in workers:
        os.waitpid(number, 0)
    return 1 if print_table(record) else 0


if __name__ == "__main__":
    sys.exit(main())
