"""Options of `batch` beside those of `complete`: who works, and when to stop. This page imports nothing slow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from jsonargparse.typing import NonNegativeInt, PositiveFloat, PositiveInt

from amodal_diffusion.basics import InputError
from amodal_diffusion.options import option

Engine = Literal["local", "ray"]


@dataclass(frozen=True)
class RunOptions:
    """Workers.

    Attributes:
        engine: local: this process, or all processes of an accelerate launch; ray: workers on one or many machines,
            which may join, leave and fail during the run; needs the extra ray
        workers: number of Ray workers, each on a GPU or on --cores-per-worker cores; by default what the cluster holds
            at the start. Workers without room wait for a machine to join
        cores_per_worker: threads of each worker; by default 1 on Ray and with several processes, else torch's own
            number
        ray_address: a running Ray: auto (the one of this machine or of RAY_ADDRESS) or HOST:PORT; if left out, one is
            started on this machine and stopped at the end
        max_failures: stop when more clips than this have failed
        take_over: begin although run.json says that another run is at work
        stall_minutes: a Ray worker without progress for so long is restarted; a pass of a network is progress. So is a
            worker that loads its networks for so long, unless it may download them (--yes)
    """

    engine: Engine = option("local", choices=get_args(Engine))
    workers: PositiveInt | None = option(None, metavar="N")
    cores_per_worker: PositiveInt | None = option(None, metavar="N")
    ray_address: str | None = option(None, metavar="auto|ADDRESS")
    max_failures: NonNegativeInt | None = option(None, metavar="N")
    take_over: bool = option(False)
    stall_minutes: PositiveFloat = option(10.0, metavar="X", advanced=True)

    def check(self) -> None:
        """Check that the options fit together.

        Raises:
            InputError: names the first that does not.
        """
        if self.engine not in get_args(Engine):
            raise InputError(f"--engine: expected local or ray, got {self.engine}")
        if self.engine == "ray":
            return
        if self.workers not in (None, 1):
            raise InputError(
                f"--workers: {self.workers} workers need --engine ray, or accelerate launch --num_processes "
                f"{self.workers}; give one of them"
            )
        if self.ray_address is not None:
            raise InputError("--ray-address: is for --engine ray; give both or neither")
