"""`amodal-diffusion shards`: write a data set as tar files that training reads from a folder or a bucket."""

from __future__ import annotations

from pathlib import Path

from jsonargparse import Namespace
from jsonargparse.typing import NonNegativeInt, PositiveFloat, PositiveInt

from amodal_diffusion.options import package_version
from amodal_diffusion.parsing import CommandParser

SUMMARY = "write training data as shards, for a folder or a bucket"


def add_arguments(parser: CommandParser) -> None:
    """Declare the command line.

    Args:
        parser: parser of this subcommand.
    """
    parser.add_argument(
        "source",
        metavar="SOURCE",
        type=Path,
        help="annotation file of SAIL-VOS, TAO-Amodal, KINS or COCOA; folder with annotations.json; folder of clips; "
        "or settings of a training run (.yaml) whose clips, such as composites, are written (docs/data.md, section 8)",
    )
    parser.add_argument("--out", metavar="URL", type=str, required=True, help="folder or URL for the shards")
    parser.add_argument(
        "--images", metavar="FOLDER", type=Path | None, default=None,
        help="root of the frames of an annotation file (default: its folder)",
    )  # fmt: skip
    parser.add_argument(
        "--depth", metavar="FOLDER", type=str | None, default=None,
        help="folder of depth pictures under the names of the frames, or `clips` for depth beside each clip's frames",
    )  # fmt: skip
    parser.add_argument(
        "--frames", type=PositiveInt | None, default=None,
        help="first frames of a track to keep (default: all); of a folder of clips, length of the clips (default: 25)",
    )  # fmt: skip
    parser.add_argument("--shard-size", metavar="MB", type=PositiveFloat, default=256.0, help="largest size of a tar")
    parser.add_argument(
        "--on-bad-sample", choices=("stop", "skip"), default="stop",
        help="at a sample that cannot be read, stop, or name it and leave it out",
    )  # fmt: skip
    parser.add_argument("--workers", type=NonNegativeInt, default=0, help="processes that encode samples")
    parser.add_argument(
        "--index-folder", metavar="FOLDER", type=Path | None, default=None,
        help="folder of the annotation file's index (default: its own folder)",
    )  # fmt: skip
    parser.add_argument("--overwrite", action="store_true", help="replace shards that are in OUT")
    parser.add_argument("-q", "--quiet", action="store_true", help="show no progress bar")


def run(args: Namespace) -> None:
    """Write the shards; the same command resumes an interrupted run.

    Args:
        args: options of :func:`add_arguments`.

    Raises:
        InputError: if SOURCE cannot be used, or OUT holds finished shards or other files.
    """
    from amodal_diffusion.data.scene_export import ANNOTATIONS
    from amodal_diffusion.data.shard_writer import WritingOptions, write_shards
    from amodal_diffusion.io.manifest import InputRecord, identity_of
    from amodal_diffusion.io.urls import public_name
    from amodal_diffusion.training.shard_sources import SourceOptions, open_source

    options = SourceOptions(args.images, args.depth, args.frames, args.index_folder)
    with open_source(args.source, options) as source:
        annotations = args.source / ANNOTATIONS
        identity = identity_of(
            {"source": InputRecord.of(annotations if annotations.is_file() else args.source)},
            {
                "images": None if args.images is None else str(args.images.resolve()),
                "depth": args.depth,
                "frames": args.frames,
                "shard_size": args.shard_size,
                "version": package_version(),
            },
        )
        writing = WritingOptions(
            shard_bytes=round(args.shard_size * 1_000_000),
            workers=args.workers,
            overwrite=args.overwrite,
            on_bad_sample=args.on_bad_sample,
            quiet=args.quiet,
        )
        header = write_shards(source, args.out, identity, writing)
    left_out = len(source) - header.samples
    skipped = f"; {left_out} could not be read and are left out" if left_out else ""
    print(f"{public_name(args.out)}: {header.samples} samples in {header.tars} tar files{skipped}")
