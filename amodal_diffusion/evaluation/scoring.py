"""Scores of one method: what each track adds, and the means over all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

from amodal_diffusion.evaluation.statistics import PooledMean, Tally, difference, pooled_mean

Measure = Literal[
    "miou", "miou_occ", "released_miou", "released_miou_occ", "fully_hidden", "invented", "psnr"
]
MEASURES: tuple[Measure, ...] = get_args(Measure)


@dataclass(frozen=True)
class TrackScore:
    """What one track adds to each mean; an empty tally where a measure has nothing to say about it.

    Attributes:
        identity: the track's.
        seconds: time the prediction took.
        miou: IoU of the whole object, strict protocol.
        miou_occ: IoU of the hidden part, strict protocol.
        released_miou: IoU of the whole object, released protocol.
        released_miou_occ: IoU of the hidden part, released protocol.
        fully_hidden: IoU of the whole object in frames that show nothing of it.
        invented: hidden area predicted where nothing is hidden, as a share of the visible area.
        psnr: painted content over hidden pixels in dB, one value a track.
    """

    identity: str
    seconds: float
    miou: Tally
    miou_occ: Tally
    released_miou: Tally
    released_miou_occ: Tally
    fully_hidden: Tally
    invented: Tally
    psnr: Tally = field(default_factory=Tally)


@dataclass(frozen=True)
class MethodScore:
    """One method on all tracks of a benchmark.

    Attributes:
        name: as given to ``--methods``.
        learned: whether the bars of the bundled model apply to it.
        uses_depth: whether it was given the depth.
        tracks: one a track, in the benchmark's order.
    """

    name: str
    learned: bool
    uses_depth: bool
    tracks: Sequence[TrackScore]

    def tallies(self, measure: Measure) -> list[Tally]:
        """List what each track adds to a measure."""
        return [getattr(track, measure) for track in self.tracks]

    def mean(self, measure: Measure) -> PooledMean:
        """Pool a measure over all tracks."""
        return pooled_mean(self.tallies(measure))

    def gain(self, other: MethodScore, measure: Measure) -> PooledMean:
        """Pool the difference to another method, frame by frame."""
        return difference(self.tallies(measure), other.tallies(measure))

    @property
    def seconds(self) -> float:
        """Time that all predictions took together."""
        return sum(track.seconds for track in self.tracks)
