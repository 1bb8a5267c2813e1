"""The alpha channel of videos: ProRes 4444, Animation, PNG, and VP8 and VP9 in WebM."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from av import CodecContext, VideoStream
from av.error import FFmpegError

from amodal_diffusion.basics import InputError
from amodal_diffusion.io.containers import open_container
from amodal_diffusion.io.video_reader import film_of
from amodal_diffusion.types import UInt8Array

_SEPARATE = {"vp8": "libvpx", "vp9": "libvpx-vp9"}  # FFmpeg's own decoders leave alpha out


def has_alpha(path: Path) -> bool:
    """Whether the frames of a video have an alpha channel.

    Args:
        path: a video that opens.
    """
    with open_container(path) as container:
        stream = film_of(container, path)
        pixels = stream.format
        return _is_separate(stream) or (pixels is not None and any(part.is_alpha for part in pixels.components))


def read_alpha(path: Path) -> Iterator[UInt8Array]:
    """Decode the alpha of a video.

    Args:
        path: a video with alpha.

    Yields:
        uint8 ``[H, W]`` of each frame, 255 is opaque.

    Raises:
        InputError: if a frame does not decode.
    """
    with open_container(path) as container:
        stream = film_of(container, path)
        decoder = stream.codec_context
        if _is_separate(stream):
            decoder = CodecContext.create(_SEPARATE[stream.codec_context.name], "r")  # type: ignore[assignment]
        for packet in container.demux(stream):
            try:
                frames = decoder.decode(packet if packet.size else None)
            except FFmpegError as error:
                raise InputError(f"{path}: its alpha does not decode ({error}); give a whole file") from error
            for frame in frames:
                rgba = frame.to_ndarray(format="rgba", threads=1)
                yield np.ascontiguousarray(rgba[..., 3], dtype=np.uint8)


def _is_separate(stream: VideoStream) -> bool:
    return (
        stream.codec_context.name in _SEPARATE
        and stream.metadata.get("alpha_mode", stream.metadata.get("ALPHA_MODE")) == "1"
    )
