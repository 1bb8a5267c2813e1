"""Downloads of a result: one line a format, which says what opens it and how."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from amodal_diffusion.app.views import link
from amodal_diffusion.completion.layout import ANNOTATIONS, VIDEOS
from amodal_diffusion.completion.option_values import FORMATS, Format
from amodal_diffusion.io.images import natural_key

ARCHIVE = "results.zip"


@dataclass(frozen=True)
class Download:
    """A line of the list.

    Attributes:
        format: name of the format, as `complete --formats` takes it; ``overlay`` is always written.
        title: what it is.
        how: which program opens it, and how.
        pattern: glob of its files in the result folder.
        archive: name of the zip in which several of them are offered; None for formats of few files.
        alone: `how` for one file that is offered without a zip, with ``{frame}`` for the number in its name.
    """

    format: str
    title: str
    how: str
    pattern: str
    archive: str | None = None
    alone: str = ""

    @property
    def is_written(self) -> bool:
        """Whether this version writes the format."""
        return self.format == "overlay" or self.format in FORMATS


def _of_objects(name: Format) -> str:
    return f"objects/*/{VIDEOS[name][1]}"


DOWNLOADS = (
    Download(
        "prores",
        "ProRes 4444 (MOV)",
        "DaVinci Resolve, Premiere Pro, After Effects, Final Cut Pro: import it and put it on a track above another "
        "clip; the alpha channel is straight.",
        _of_objects("prores"),
    ),
    Download(
        "webm",
        "WebM with transparency",
        "Chrome, Firefox and OBS Studio: use it in a <video> element or as a media source.",
        _of_objects("webm"),
    ),
    Download(
        "mp4",
        "MP4 over a color",
        "Any player, phone or presentation: open it; an editor removes green or blue with its chroma key. Advanced "
        "chooses the color.",
        "objects/*/completed*.mp4",
    ),
    Download(
        "png",
        "PNG pictures (zip)",
        "Blender, Nuke, After Effects, GIMP: unpack it and import the first picture of an object as an image sequence.",
        "objects/*/completed/*.png",
        "layers.zip",
    ),
    Download(
        "psd",
        "Photoshop (PSD)",
        "Photoshop, Affinity Photo, Krita: unpack it and open a frame; each object is a layer.",
        "layered/*.psd",
        "psd.zip",
        "Photoshop, Affinity Photo, Krita: open it; it is frame {frame}, which hides most; each object is a layer.",
    ),
    Download(
        "ora",
        "OpenRaster (ORA)",
        "Krita, GIMP, MyPaint: unpack it and open a frame; each object is a layer.",
        "layered/*.ora",
        "ora.zip",
        "Krita, GIMP, MyPaint: open it; it is frame {frame}, which hides most; each object is a layer.",
    ),
    Download("gif", "GIF", "A browser or a README: drag it in; it plays by itself.", "objects/*/*.gif"),
    Download(
        "coco",
        "Masks as COCO (JSON)",
        "pycocotools, FiftyOne, CVAT: import it as COCO instances; the masks are run lengths of the whole objects.",
        ANNOTATIONS["coco"],
    ),
    Download(
        "youtube-vis",
        "Masks as YouTube-VIS (JSON)",
        "Detectron2, MMTracking: register it as a YouTube-VIS data set.",
        ANNOTATIONS["youtube-vis"],
    ),
    Download(
        "masks-mp4",
        "Masks as video (MP4)",
        "Any editor: use it as a luma matte; white is the whole object.",
        _of_objects("masks-mp4"),
    ),
    Download(
        "overlay", "Overlay (MP4)", "Any player: the clip with the masks; stripes are hidden parts.", "overlay.mp4"
    ),
)
"""The formats that the page offers, in the order of the list."""


def choices() -> list[tuple[str, str]]:
    """Title and name of each format that a visitor can choose; PNG is always written."""
    return [
        (entry.title, entry.format)
        for entry in DOWNLOADS
        if entry.is_written and entry.format not in ("png", "overlay")
    ]


def pack(results: Path) -> None:
    """Pack all files of a result into `results.zip` beside its folder, and formats of many files into their own zips.

    Args:
        results: result folder of `complete`.
    """
    _zip(results.with_name(ARCHIVE), files_of(results), results)
    for entry in DOWNLOADS:
        files = _files(entry, results)
        if entry.archive is not None and (len(files) > 1 or (files and not entry.alone)):
            _zip(results.with_name(entry.archive), files, results)


def _zip(target: Path, files: Sequence[Path], results: Path) -> None:
    with zipfile.ZipFile(target, "w") as archive:  # the files are compressed already
        for file in files:
            archive.write(file, Path(target.stem, file.relative_to(results)))


def layer_folder(results: Path, name: str) -> Path:
    """Folder with the RGBA layers of an object; those with a soft edge have another name.

    Args:
        results: result folder of `complete`.
        name: name of the object.
    """
    styled = results / "objects" / name / "layers"
    return styled if styled.is_dir() else results / "objects" / name / "completed"


def download_list(results: Path) -> str:
    """HTML of the list; all single files are folded below it.

    Args:
        results: result folder of `complete`, with the zips of :func:`pack` beside it.
    """
    rows = [_line(entry, _offered(entry, results)) for entry in DOWNLOADS if entry.is_written]
    how = "Any program that unpacks zips: all of the above and the records, summary.json first."
    rows.append(_row("Everything (zip)", how, [results.with_name(ARCHIVE)]))
    return f'<div class="amodal-files"><table>{"".join(rows)}</table>{_folded(results)}</div>'


def files_of(results: Path) -> list[Path]:
    """All files of a result in natural order."""
    found = [path for path in results.rglob("*") if path.is_file()]
    return sorted(found, key=lambda path: natural_key(path.relative_to(results).as_posix()))


def _files(entry: Download, results: Path) -> list[Path]:
    found = list(results.glob(entry.pattern))
    if entry.format == "png":
        found = [
            file for folder in results.glob("objects/*") for file in layer_folder(results, folder.name).glob("*.png")
        ]
    return sorted(found, key=lambda path: natural_key(path.as_posix()))


def _offered(entry: Download, results: Path) -> list[Path]:
    """The zip of a format of many files, if it was packed, else the files."""
    if entry.archive is None:
        return _files(entry, results)
    packed = results.with_name(entry.archive)
    return [packed] if packed.is_file() else _files(entry, results)


def _line(entry: Download, files: Sequence[Path]) -> str:
    if entry.alone and files and files[0].name != entry.archive:
        return _row(entry.title, entry.alone.format(frame=int(files[0].stem)), files)
    return _row(entry.title, entry.how, files)


def _row(title: str, how: str, files: Sequence[Path]) -> str:
    if not files:
        return ""
    anchors = " · ".join(_anchor(file, _label(file, title, several=len(files) > 1)) for file in files)
    return f"<tr><td>{anchors}<br><small>{_size(files)}</small></td><td>{escape(how)}</td></tr>"


def _label(file: Path, title: str, *, several: bool) -> str:
    return f"{title}, object {file.parent.name}" if several else title


def _size(files: Sequence[Path]) -> str:
    size = sum(file.stat().st_size for file in files)
    return f"{size / 2**20:.1f} MiB" if size >= 2**20 / 10 else f"{max(1, size // 1024)} KiB"


def _folded(results: Path) -> str:
    """Links to all single files, by folder."""
    folders: dict[str, list[Path]] = {}
    for file in files_of(results):
        folders.setdefault(file.relative_to(results).parent.as_posix(), []).append(file)
    parts = "".join(
        f"<details><summary>{escape('records and videos' if folder == '.' else folder)} ({len(files)})</summary>"
        f"{''.join(_anchor(file, file.name) for file in files)}</details>"
        for folder, files in folders.items()
    )
    return f"<details><summary>Single files</summary>{parts}</details>"


def _anchor(file: Path, text: str) -> str:
    return f'<a href="{link(file)}" download="{escape(file.name)}">{escape(text)}</a>'
