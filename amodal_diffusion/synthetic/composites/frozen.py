"""The split test-v2: 200 composites of held-out categories, fixed before any training.

`test_v2.json` holds the held-out cut-outs with the SHA-256 of their source pictures, the versions of all packages that
took part, and for each clip its seed, what it shows and the digest of its frames and masks. The clips are rebuilt where
the sources are installed; a clip's bytes do not depend on the machine (`compositing`). What could change them: another
version of Pillow or libwebp that decodes or scales a picture to other values, or numpy's random stream of PCG64.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import count
from pathlib import Path

import torch

from amodal_diffusion.basics import InputError
from amodal_diffusion.synthetic.composites.clips import Composer, CompositeBatch
from amodal_diffusion.synthetic.composites.cutouts import Cutout, CutoutSet, read_index, read_pictures, split_of
from amodal_diffusion.synthetic.composites.made import made_cutouts

FRAMES, HEIGHT, WIDTH = 25, 128, 256
CLIPS = 200
MADE = 32
"""Made-up cut-outs of each role."""
FILE = Path(__file__).parent.parent / "test_v2.json"
_LIBRARIES = ("numpy", "pillow", "scipy", "torch")


@dataclass(frozen=True)
class FrozenClip:
    """One clip of the split.

    Attributes:
        seed: see :class:`~amodal_diffusion.synthetic.composites.clips.Composer`.
        mode: what hides the target.
        shows: indices into the list of cut-outs, or names of made-up ones, the target first.
        sha256: digest of frames and masks.
    """

    seed: int
    mode: str
    shows: tuple[int | str, ...]
    sha256: str


@dataclass(frozen=True)
class FrozenSplit:
    """Content of `test_v2.json`.

    Attributes:
        versions: of packages and of libraries.
        cutouts: source, name and SHA-256 of each held-out cut-out, in the order in which they are drawn from.
        clips: the clips.
    """

    versions: dict[str, str]
    cutouts: tuple[tuple[str, str, str], ...]
    clips: tuple[FrozenClip, ...]


@cache
def frozen_split() -> FrozenSplit:
    """What `test_v2.json` says."""
    content = json.loads(FILE.read_text(encoding="utf-8"))
    clips = (FrozenClip(c["seed"], c["mode"], tuple(c["shows"]), c["sha256"]) for c in content["clips"])
    return FrozenSplit(content["versions"], tuple((s, n, d) for s, n, d in content["cutouts"]), tuple(clips))


def missing_sources(folder: Path) -> list[str]:
    """Cut-outs of test-v2 that a folder lacks or has otherwise, as ``source: name``; all of them if it has no index."""
    return [f"{source}: {name}" for source, name, _ in _missing(folder)]


def _missing(folder: Path) -> list[tuple[str, str, str]]:
    try:
        cutouts, _ = read_index(folder)
    except InputError:
        return list(frozen_split().cutouts)
    there = {_key(cutout) for cutout in cutouts}
    return [key for key in frozen_split().cutouts if key not in there]


def frozen_cutouts(folder: Path) -> CutoutSet:
    """The cut-outs of test-v2 with their pictures, in the order of `test_v2.json`.

    Raises:
        InputError: if some are missing; the message says how many of which package.
    """
    missing = _missing(folder)
    if missing:
        raise InputError(
            f"{folder}: test-v2 needs pictures that are missing here: {_counted(missing)}; install these packages and "
            "run recipes/tiny/collect_cutouts.py, see recipes/tiny/README.md"
        )
    cutouts, _ = read_index(folder)
    known = {_key(cutout): cutout for cutout in cutouts}
    return _with_made(folder, [known[key] for key in frozen_split().cutouts])


def describe_sources() -> str:
    """How many pictures of which package the split is made of, for messages."""
    return _counted(frozen_split().cutouts)


def _counted(cutouts: Sequence[tuple[str, str, str]]) -> str:
    sources = sorted({source for source, _, _ in cutouts})
    return ", ".join(f"{sum(s == source for s, _, _ in cutouts)} of {source}" for source in sources)


def make_test_v2(folder: Path, length: int = CLIPS) -> Iterator[CompositeBatch]:
    """Make the clips of test-v2, one at a time, in order; without errors of tools.

    Args:
        folder: cut-outs, as recipes/tiny/collect_cutouts.py writes them.
        length: the first ones only.

    Raises:
        InputError: if sources are missing, or a clip is not the one of `test_v2.json`.
    """
    composer = composer_of(frozen_cutouts(folder))
    for clip in frozen_split().clips[:length]:
        yield checked(composer, clip)


def composer_of(cutouts: CutoutSet) -> Composer:
    """The composer of the split's clips."""
    return Composer(cutouts, "test-v2", frames=FRAMES, height=HEIGHT, width=WIDTH)


def checked(composer: Composer, clip: FrozenClip) -> CompositeBatch:
    """Make a clip and compare its digest.

    Raises:
        InputError: if it differs; the message has the versions that made the original.
    """
    batch = composer([clip.seed])
    if clip_digest(batch) != clip.sha256:
        versions = ", ".join(f"{name} {version}" for name, version in frozen_split().versions.items())
        raise InputError(
            f"test-v2, seed {clip.seed}: frames or masks differ from those of test_v2.json, so figures could not be "
            f"compared; it was made with {versions}"
        )
    return batch


def clip_digest(batch: CompositeBatch) -> str:
    """SHA-256 of RGB, modal and amodal masks, whole RGB and the true depth of clips."""
    digest = hashlib.sha256()
    depth = torch.round(batch.true_depth * 2**16).to(torch.int32)
    for part in (batch.rgb, batch.modal, batch.amodal, batch.whole_rgb, depth):
        digest.update(part.contiguous().numpy().tobytes())
    return digest.hexdigest()


def freeze(folder: Path, *, clips: int = CLIPS) -> None:
    """Choose the clips of test-v2 and write `test_v2.json`; this made the file and is not run again.

    A seed is taken if its clip does what its mode says.

    Args:
        folder: all cut-outs.
        clips: how many.
    """
    found, versions = read_index(folder)
    held_out = [cutout for cutout in found if split_of(cutout.category) == "test-v2"]
    composer = composer_of(_with_made(folder, held_out))
    number = {f"{cutout.source}: {cutout.name}": index for index, cutout in enumerate(held_out)}
    chosen: list[dict[str, object]] = []
    for seed in count():
        if len(chosen) == clips:
            break
        if not composer.layout([seed])[1][0]:
            continue
        batch = composer([seed])
        record = batch.records[0]
        shows = [number.get(name, name) for _, name, _ in record.sources]
        chosen.append({"seed": seed, "mode": record.mode, "shows": shows, "sha256": clip_digest(batch)})
    libraries = {name: importlib.metadata.version(name) for name in _LIBRARIES}
    lines = ",\n".join(json.dumps(clip) for clip in chosen)
    names = ",\n".join(json.dumps(_key(cutout)) for cutout in held_out)
    head = json.dumps({**versions, **libraries})
    FILE.write_text(f'{{"format": 1,\n"versions": {head},\n"cutouts": [\n{names}\n],\n"clips": [\n{lines}\n]}}\n')


def _with_made(folder: Path, cutouts: Sequence[Cutout]) -> CutoutSet:
    read = CutoutSet.of([(cutout.kind, cutout, read_pictures(folder, cutout)) for cutout in cutouts])
    return read.joined(made_cutouts("test-v2", MADE))


def _key(cutout: Cutout) -> tuple[str, str, str]:
    return cutout.source, cutout.name, cutout.sha256
