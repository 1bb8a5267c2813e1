"""Collect the cut-outs in one folder: `python -m recipes.tiny.collect_cutouts --emoji DIR ...`."""

import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from amodal_diffusion.basics import InputError
from amodal_diffusion.parsing import parse_settings
from amodal_diffusion.synthetic.composites.cutouts import (
    Cutout,
    pixel_digest,
    prepare_pictures,
    read_index,
    write_cutouts,
)
from recipes.tiny import cutout_sources, people
from recipes.tiny.cutout_sources import Found


@dataclass(frozen=True)
class CollectSettings:
    """Where the packages are; those that are not given are left out.

    Attributes:
        out: folder to write, or to add to.
        emoji: unpacked npm package `@lobehub/fluent-emoji-3d`.
        clipart: ``usr/share/openclipart/png`` of the Debian package `openclipart-png`.
        freedoom: ``usr/share/games/doom/freedoom2.wad`` of the Debian package `freedoom`.
        people: number of walking people to render with the Python package `anny`.
        own: own RGBA pictures, see `cutout_sources.own`.
        own_licence: their licence.
    """

    out: Path = Path("runs/cutouts")
    emoji: Path | None = None
    clipart: Path | None = None
    freedoom: Path | None = None
    people: int = 0
    own: Path | None = None
    own_licence: str = "unknown"


@dataclass(frozen=True)
class _Source:
    package: str
    version: str
    licence: str
    things: Iterator[Found]


def _sources(settings: CollectSettings) -> Iterator[_Source]:
    if settings.emoji is not None:
        yield _Source("@lobehub/fluent-emoji-3d", "1.1.0", "MIT", cutout_sources.emoji(settings.emoji))
    if settings.clipart is not None:
        yield _Source("openclipart-png", "0.18", "public domain", cutout_sources.clipart(settings.clipart))
    if settings.freedoom is not None:
        yield _Source("freedoom", "0.12.1", "BSD-3-Clause", cutout_sources.freedoom(settings.freedoom))
    if settings.people:
        yield _Source("anny", people.version(), "Apache-2.0, data CC0-1.0", people.walkers(settings.people))
    if settings.own is not None:
        yield _Source("own", "", settings.own_licence, cutout_sources.own(settings.own))


def collect(settings: CollectSettings) -> dict[str, tuple[int, int]]:
    """Write the folder, or add packages to it; a package that it has already is left as it is.

    Returns:
        number of things and of pictures of each package in the folder.

    Raises:
        InputError: if no package is given, or one cannot be read.
    """
    sources = list(_sources(settings))
    if not sources:
        raise InputError("no package given; name at least one of --emoji, --clipart, --freedoom, --people and --own")
    cutouts, versions = read_index(settings.out) if settings.out.exists() else ([], {})
    for source in sources:
        if source.package not in versions:
            cutouts += _add(settings.out, source)
            versions[source.package] = source.version
            write_cutouts(settings.out, cutouts, versions)
    counts = {}
    for package, version in versions.items():
        files = [cutout.files for cutout in cutouts if cutout.source == _name(package, version)]
        counts[package] = (len(files), sum(len(names) for names in files))
    return counts


def _add(out: Path, source: _Source) -> list[Cutout]:
    """Write the pictures of a package into a folder of their own."""
    place = source.package.rpartition("/")[2]
    partial = out / f"{place}.partial"
    for folder in (partial, out / place):
        shutil.rmtree(folder, ignore_errors=True)
    partial.mkdir(parents=True)
    cutouts = []
    for number, found in enumerate(source.things):
        names = [f"{number:05d}-{frame:02d}.png" for frame in range(len(found.pictures))]
        pictures = prepare_pictures(found.pictures)
        for name, picture in zip(names, pictures, strict=True):
            Image.fromarray(picture).save(partial / name)
        cutouts.append(
            Cutout(
                name=found.name,
                category=found.category,
                source=_name(source.package, source.version),
                licence=source.licence,
                sha256=found.sha256 or pixel_digest(pictures),
                files=tuple(f"{place}/{name}" for name in names),
                kind=found.kind,
                facing=found.facing,
                weight=found.weight,
            )
        )
    partial.rename(out / place)
    return cutouts


def _name(package: str, version: str) -> str:
    return f"{package} {version}".strip()


if __name__ == "__main__":
    try:
        collected = collect(parse_settings(CollectSettings, sys.argv[1:]))
    except InputError as error:
        sys.exit(f"error: {error}")
    for package, (things, pictures) in collected.items():
        sys.stdout.write(f"{package}: {things} things, {pictures} pictures\n")
