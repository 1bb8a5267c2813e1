"""What the engines of `batch` cost beside the clips, and what is lost when workers die: `python benchmarks/scale.py`.

Clips of 24 x 40 pixels whose lengths follow a heavy-tailed law are completed with the bundled model at 32 x 32 and one
step: by one process, by an accelerate launch of two, and by Ray with two workers, one thread a worker.

- Overhead of a clip: (time of all workers - sum of the clips' own seconds) / clips. Start-up apart: a worker's time
  counts from the beginning of its first clip to the end of the last clip of all.
- Balance: ideal / measured time. Ideal is the larger of the longest clip and the sum of the clips' seconds over the
  workers; measured is the mean time of a worker. Beside it, what a fixed part for each worker gives on the same list,
  calculated from the same seconds.
- Memory of a worker: its peak resident set. Of the list: that of a process that reads 1,000 or 1,000,000 lines.
- Drill: workers of a local cluster of three nodes are killed at random times, one node is removed and one is added.
  Lost clips are in neither results nor failures, wrong ones have other bytes than the undisturbed results, double
  ones have two records.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image

from amodal_diffusion.completion.batch import complete_many
from amodal_diffusion.completion.clip_queue import ClipQueue
from amodal_diffusion.completion.clip_work import ClipRecord
from amodal_diffusion.completion.run_options import RunOptions
from amodal_diffusion.data.clip_list import read_clip_list

ROOT = Path(__file__).resolve().parents[1]
LAUNCH = ROOT / "configs/accelerate/cpu_two_processes.yaml"
OPTIONS = {"device": "cpu", "stages": "masks", "depth": "none", "preset": "fast", "steps": 1, "height": 32, "width": 32}
WORKERS = {"one process": 1, "accelerate launch": 2, "ray": 2}
TOLD = {"manifest.json", "summary.json", "object.json", "run.json", "failures.json"}
"""Files that hold times and paths."""
SHORTEST, LONGEST, TAIL = 2, 60, 1.2
"""Frames of a clip, and the exponent of the Pareto law that their number follows."""
HEIGHT, WIDTH, RADIUS = 24, 40, 6


@dataclass(frozen=True)
class Done:
    """A clip that a worker has ended.

    Attributes:
        name: of the clip.
        worker: machine and process.
        seconds: of the clip.
        ended: time on the clock of the machine.
        memory: peak resident set of the worker so far in MiB.
    """

    name: str
    worker: str
    seconds: float
    ended: float
    memory: float


def main() -> None:
    """Print the tables that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=1000)
    parser.add_argument("--drill-clips", type=int, default=300)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--parts", nargs="+", default=["engines", "list", "drill"])
    parser.add_argument("--work", metavar="DIR", type=Path, help="keep clips and results here")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)  # a process that is measured
    args = parser.parse_args()
    if args.child is not None:
        run_child(*args.child)
        return
    with TemporaryDirectory() as scratch:
        work = args.work or Path(scratch)
        if "engines" in args.parts:
            engines(make_clips(work / "clips", args.clips), work)
        if "list" in args.parts:
            lists(work, args.lines)
        if "drill" in args.parts:
            drill(make_clips(work / "drill_clips", args.drill_clips), work, args.kills)


def make_clips(folder: Path, count: int) -> Path:
    """Write clips of a disc that moves over noise; returns their list."""
    rng = np.random.default_rng(0)
    frames = np.minimum(LONGEST, (SHORTEST * (1 + rng.pareto(TAIL, count))).astype(int))
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    lines = []
    for number, length in enumerate(frames.tolist()):
        noise = rng.integers(0, 120, (HEIGHT, WIDTH, 3), dtype=np.uint8)
        for kind in ("frames", "masks"):
            (folder / f"{number}/{kind}").mkdir(parents=True, exist_ok=True)
        for index in range(length):
            center = RADIUS + (index % (WIDTH - 2 * RADIUS))
            mask = (rows - HEIGHT / 2) ** 2 + (columns - center) ** 2 < RADIUS**2
            frame = np.where(mask[..., None], np.uint8(200), noise)
            Image.fromarray(frame).save(folder / f"{number}/frames/{index:05d}.png")
            Image.fromarray(mask.astype(np.uint8) * 255).save(folder / f"{number}/masks/{index:05d}.png")
        row = {"clip": f"{number}/frames", "masks": f"{number}/masks", "name": f"{number:05d}", "frames": length}
        lines.append(json.dumps(row) + "\n")
    path = folder / "list.jsonl"
    path.write_text("".join(lines), encoding="utf-8")
    return path


def engines(clips: Path, work: Path) -> None:
    """Print overhead, balance and memory of each engine."""
    print("| engine | workers | seconds | overhead a clip, ms | balance | fixed parts | MiB a worker | same bytes |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    expected: dict[str, bytes] = {}
    for engine, workers in WORKERS.items():
        out = work / engine.replace(" ", "_")
        command = [str(Path(__file__).resolve()), "--child", engine, str(clips), str(out)]
        launched = ["-m", "accelerate.commands.launch", "--config_file", str(LAUNCH)] if "launch" in engine else []
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        subprocess.run([sys.executable, *launched, *command], check=True, env=environment, stdout=subprocess.DEVNULL)
        found = [
            Done(**json.loads(line))
            for path in work.glob(f"{out.name}.*.jsonl")
            for line in path.read_text(encoding="utf-8").splitlines()
        ]
        expected = expected or results(out)
        print(f"| {engine} | {workers} | {measure(found, workers)} | {results(out) == expected} |", flush=True)


def measure(found: Sequence[Done], workers: int) -> str:
    """Cells of a row: seconds, overhead, balance, balance of fixed parts, and memory."""
    begun: dict[str, float] = {}
    for done in found:
        begun[done.worker] = min(begun.get(done.worker, done.ended), done.ended - done.seconds)
    assert len(begun) == workers, begun
    end = max(done.ended for done in found)
    spent, seconds = sum(end - start for start in begun.values()), [done.seconds for done in found]
    ideal = max(sum(seconds) / workers, *seconds)
    listed = [done.seconds for done in sorted(found, key=lambda done: done.name)]
    fixed = max(sum(listed[index::workers]) for index in range(workers))
    overhead = (spent - sum(seconds)) / len(found) * 1000
    memory = max(done.memory for done in found)
    cells = (f"{spent / workers:.1f}", f"{overhead:.1f}", f"{ideal * workers / spent:.3f}", f"{ideal / fixed:.3f}")
    return " | ".join((*cells, f"{memory:.0f}"))


def run_child(engine: str, clips: str, out: str) -> None:
    """Complete a list with an engine, and write what each clip took; or read a list and print the memory."""
    if engine == "list":
        queue = ClipQueue(read_clip_list(Path(clips)))
        read = sum(1 for _ in iter(queue.take, None))
        print(json.dumps([read, peak_memory(os.getpid())]))
        return
    run = RunOptions(workers=WORKERS[engine] if engine == "ray" else None, cores_per_worker=1)
    records = complete_many(clips, out, engine="ray" if engine == "ray" else "local", options=OPTIONS, run=run)
    with Path(f"{out}.{os.getpid()}.jsonl").open("w", encoding="utf-8") as file:
        for record in records:
            memory = peak_memory(int(record.worker.rpartition("/")[2]))
            file.write(json.dumps(asdict(Done(record.name, record.worker, record.seconds, time.time(), memory))) + "\n")


def peak_memory(process: int) -> float:
    """Peak resident set of a process in MiB."""
    status = Path(f"/proc/{process}/status").read_text(encoding="utf-8")
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def results(out: Path) -> dict[str, bytes]:
    """All files of results but those that hold times and paths."""
    found = (path for path in out.rglob("*.*") if path.is_file() and path.name not in TOLD)
    return {str(path.relative_to(out)): path.read_bytes() for path in found}


def lists(work: Path, lines: int) -> None:
    """Print the memory that reading a list takes."""
    print("\n| lines | peak MiB | seconds |\n| --- | --- | --- |")
    for count in (1000, lines):
        path = work / f"{count}.jsonl"
        with path.open("w", encoding="utf-8") as file:
            for number in range(count):
                file.write(json.dumps({"clip": f"footage/{number:09d}.mp4", "masks": f"footage/{number:09d}"}) + "\n")
        began = time.monotonic()
        done = subprocess.run(
            [sys.executable, str(Path(__file__).resolve()), "--child", "list", str(path), ""],
            check=True, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
        )  # fmt: skip
        read, memory = json.loads(done.stdout)
        assert read == count
        print(f"| {count:,} | {memory:.0f} | {time.monotonic() - began:.0f} |", flush=True)


def drill(clips: Path, work: Path, kills: int) -> None:
    """Disturb a run on a cluster of three nodes, and print what became of the clips."""
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "OMP_NUM_THREADS": "1", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
    quiet = work / "drill_alone"
    for record in complete_many(clips, quiet, options=OPTIONS, run=RunOptions(cores_per_worker=1)):
        assert record.error is None, record
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
    count = len(read_clip_list(clips))
    rng = random.Random(0)
    moments = sorted(rng.randrange(count * 9 // 10) for _ in range(kills))
    sent: Counter[str] = Counter()
    seen: list[ClipRecord] = []
    ended = threading.Event()

    def disturb() -> None:
        for moment in moments:
            while len(seen) < moment and not ended.is_set():
                time.sleep(0.01)
            sent["kill"] += kill_worker(rng, ended)

    thread = threading.Thread(target=disturb)
    thread.start()
    out = work / "drill"
    run = RunOptions(workers=3, ray_address=cluster.address, cores_per_worker=1)
    try:
        for record in complete_many(clips, out, engine="ray", options=OPTIONS, run=run):
            seen.append(record)
            if len(seen) == count // 3:
                cluster.remove_node(nodes.pop(), allow_graceful=False)
                sent["remove"] += 1
            elif len(seen) == count // 2:
                cluster.add_node(num_cpus=1)
                sent["add"] += 1
    finally:
        ended.set()
        thread.join()
        cluster.shutdown()
    report(quiet, out, seen, sent)


def kill_worker(rng: random.Random, ended: threading.Event) -> bool:
    """Kill one of the workers that compute, after a random time; False if the run has ended before."""
    while not ended.is_set():
        time.sleep(rng.random())
        with suppress(OSError):
            computing = list(own_workers())
            if computing:
                os.kill(rng.choice(computing), signal.SIGKILL)
                return True
    return False


def own_workers() -> Iterator[int]:
    """Processes of this script's cluster that compute a clip now."""
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, ValueError):
            if (entry / "cmdline").read_bytes().startswith(b"ray::ClipActor.complete") and is_own(int(entry.name)):
                yield int(entry.name)


def is_own(process: int) -> bool:
    """Whether a process descends from this one."""
    while process > 1:
        process = int(Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[1])
        if process == os.getpid():
            return True
    return False


def report(quiet: Path, out: Path, seen: Sequence[ClipRecord], sent: Counter[str]) -> None:
    """Print what was done to the workers and what became of the clips."""
    expected, found = results(quiet), results(out)
    failures = {record.name for record in seen if record.error is not None}
    names = {name.partition("/")[0] for name in expected}
    there = {name.partition("/")[0] for name in found if ".partial" not in name}
    differing = {name.partition("/")[0] for name in expected if found.get(name) != expected[name]}
    double = [name for name, times in Counter(record.name for record in seen).items() if times > 1]
    print("\n| workers killed | nodes removed | nodes added | clips | failed | lost | wrong | double |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    lost, wrong = names - there - failures, differing & there
    cells = (sent["kill"], sent["remove"], sent["add"], len(names), len(failures), len(lost), len(wrong), len(double))
    print(f"| {' | '.join(map(str, cells))} |", flush=True)


if __name__ == "__main__":
    main()
