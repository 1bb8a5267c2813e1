"""`amodal-diffusion prepare`: convert clips with masks, or raw SAIL-VOS, to the annotation file for training."""

from __future__ import annotations

from pathlib import Path

from jsonargparse import Namespace
from jsonargparse.typing import NonNegativeInt, PositiveFloat, PositiveInt

from amodal_diffusion.options import package_version
from amodal_diffusion.parsing import CommandParser

SUMMARY = "write the annotation file of your own clips, for training"
ANNOTATIONS, COMPLETE = "annotations.json", "complete_objects.json"


def add_arguments(parser: CommandParser) -> None:
    """Declare the command line.

    Args:
        parser: parser of this subcommand.
    """
    parser.add_argument(
        "source",
        metavar="SOURCE",
        type=Path,
        help="folder of clips, each with frames and folders of modal and amodal mask images; or a JSON file, either "
        "COCO-like with an object number in each annotation (such as SAIL-VOS's own), or YouTube-VIS-like, "
        "or an annotation file (docs/data.md, section 1)",
    )
    parser.add_argument("--out", type=Path, required=True, help=f"folder for {ANNOTATIONS} and {COMPLETE}")
    parser.add_argument("--frames", type=PositiveInt, default=25, help="number of frames per clip")
    parser.add_argument(
        "--stride", type=PositiveInt | None, default=None, help="frames from clip to clip (default: --frames)"
    )
    parser.add_argument("--fps", type=PositiveFloat | None, default=None, help="frame rate to keep (default: all)")
    parser.add_argument(
        "--source-fps", type=PositiveFloat | None, default=None, help="frame rate of SOURCE, needed with --fps"
    )
    parser.add_argument(
        "--min-size",
        type=NonNegativeInt,
        default=0,
        help="least length in pixels of the shorter side of the object's largest box",
    )
    parser.add_argument(
        "--min-present", type=float, default=0.5, help="least share of a clip's frames that contain the object"
    )
    parser.add_argument(
        "--occlusion", nargs=2, metavar=("LEAST", "LARGEST"), type=float, default=[0.0, 1.0],
        help="range of the object's occluded share, as a mean over the frames that contain it",
    )  # fmt: skip
    parser.add_argument("--images", type=str | None, default=None, help="frame folder of each clip (default: images)")
    parser.add_argument(
        "--modal", type=str | None, default=None,
        help="modal mask folder of each clip (default: modal); for JSON, the key (default: visible_mask)",
    )  # fmt: skip
    parser.add_argument(
        "--amodal", type=str | None, default=None,
        help="amodal mask folder of each clip (default: amodal); for JSON, the key (default: segmentation)",
    )  # fmt: skip
    parser.add_argument(
        "--object", type=str | None, default=None,
        help="for JSON, the key of the object number (default: obj_id, track_id or instance_id)",
    )  # fmt: skip
    parser.add_argument("--overwrite", action="store_true", help="replace earlier results of this program in OUT")
    parser.add_argument("-q", "--quiet", action="store_true", help="show no progress bar")


def run(args: Namespace) -> None:
    """Write both annotation files and print a summary.

    Args:
        args: options of :func:`add_arguments`.

    Raises:
        InputError: if SOURCE has another format, an option does not fit it, or OUT is not empty.
    """
    from tqdm import tqdm

    from amodal_diffusion.basics import InputError
    from amodal_diffusion.data.prepare import ClipSettings, prepare, source_objects
    from amodal_diffusion.io.result_folder import InputRecord, OutputFolder

    if not args.source.exists():
        raise InputError(f"{args.source}: no such file or folder")
    names = ("frames", "stride", "fps", "source_fps", "min_size", "min_present", "occlusion")
    chosen = {name: args[name] for name in names} | {"occlusion": tuple(args.occlusion)}
    clips = ClipSettings(**chosen)
    where = {name: args[name] for name in ("images", "modal", "amodal", "object")}
    objects = tqdm(source_objects(args.source, **where), desc="tracks", unit="track", disable=args.quiet)
    folder = OutputFolder(
        args.out,
        inputs={"source": InputRecord.of(args.source)},
        settings={"command": "prepare", **vars(clips), **where, "version": package_version()},
        overwrite=args.overwrite,
    )
    with folder.opened():
        with folder.step("clips", [ANNOTATIONS, COMPLETE]) as work:
            report = prepare(objects, clips, annotations=work / ANNOTATIONS, complete=work / COMPLETE)
            if not report.clips and not report.complete:
                raise InputError(f"{args.source}: not one clip of {report.tracks} tracks: {report.reasons()}")
        folder.commit()
    print(report.summary(args.out / ANNOTATIONS, args.out / COMPLETE))
