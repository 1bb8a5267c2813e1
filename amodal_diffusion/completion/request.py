"""Options of `complete`, in the groups of its help, and what follows from them alone."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from jsonargparse.typing import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from amodal_diffusion.basics import Cuts, InputError, Stage
from amodal_diffusion.completion.option_values import (
    Format,
    LayerFrames,
    read_bit_depth,
    read_color,
    read_cuts,
    read_filters,
    read_formats,
    read_layer_frames,
    read_threshold,
)
from amodal_diffusion.completion.storage_options import read_out
from amodal_diffusion.config import (
    MASK_TYPES,
    Alpha,
    Attention,
    Conditioning,
    Fit,
    MaskFilter,
    MaskType,
    Offload,
    Preset,
    Resample,
    Scheduler,
)
from amodal_diffusion.io.urls import Location, local_path, public_name
from amodal_diffusion.options import Renamed, option, package_version
from amodal_diffusion.pipelines.methods import DEFAULT_MODEL, DIFFUSION, METHODS, OF_DIFFUSION, StageNames

if TYPE_CHECKING:
    from amodal_diffusion.io.prompts import Prompts
    from amodal_diffusion.io.result_folder import InputRecord

RENAMED: Renamed = {
    "--expand": "--margin",
    "--solver": "--scheduler",
    "--objects-at-once": "--object-batch",
    "--spans": {"auto": ["--skip-unoccluded"], "all": ["--no-skip-unoccluded"]},
    "--copies": {"on": ["--color-propagation"], "off": ["--no-color-propagation"]},
    "--guards": "--mask-filters",
}
"""Options of version 0.1, by their old names."""
OF_NETWORKS = ("vae", "compile", "cuda_graphs", "channels_last", "offload")
"""Options of `ModelChoice` that do nothing without networks."""
_URL_AS_PATH = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]+):/+")
_OF_ALL_METHODS = ("seed", "object_batch")


@dataclass(frozen=True)
class Source:
    """Input.

    Attributes:
        clip: a video file, a folder of pictures, or one picture, animated or not
        masks: visible part of each object: a folder of PNG (0/255: one object; a palette or several gray values: one
            object each), a folder of folders of PNG (one per object), a mask video, a lossless video of labels, a
            NumPy file, or a COCO, YouTube-VIS or SA-V JSON file
        mask_type: what the values of mask pictures and videos mean, if not what the files suggest
        object: complete this object alone
        amodal_masks: amodal masks are known: paint only
        from_scores: result folder of an earlier run of this clip with --formats scores: cut the masks anew from its
            scores, with --mask-threshold and --mask-filters, without the networks; masks only
        allow_truncated: go on with what decodes of a damaged video
        bit_depth: bits of the values in pictures of 16 bits, such as 12; by the files if left out
        cuts: hard cuts, which nothing crosses: found by the colors, none, or the first frames of new shots, such as
            24,80
        dry_run: check the input and print how much memory the networks take and which options fit GPUs of 8 to 24 GB;
            nothing is downloaded, loaded or written
    """

    clip: Path = option(metavar="CLIP", positional=True)
    masks: Path | None = option(None, metavar="MASKS")
    mask_type: MaskType | None = option(None, choices=MASK_TYPES, advanced=True)
    object: str | None = option(None, metavar="ID", advanced=True)
    amodal_masks: Path | None = option(None, metavar="DIR", advanced=True)
    from_scores: Path | None = option(None, metavar="DIR", advanced=True)
    allow_truncated: bool = option(False, advanced=True)
    bit_depth: int | None = option(None, metavar="N", read=read_bit_depth, advanced=True)
    cuts: Cuts = option("auto", metavar="auto|none|LIST", read=read_cuts, advanced=True)
    dry_run: bool = option(False, advanced=True)

    def check_paths(self) -> None:
        """Check that clip and masks are there, which takes no time.

        Raises:
            InputError: if one is missing.
        """
        for prefix, path in (("", self.clip), ("--masks: ", self.masks)):
            if path is None or path.exists():
                continue
            url = _URL_AS_PATH.sub(r"\1://", str(path))
            if url != str(path):
                raise InputError(f"{prefix}{public_name(url)}: `amodal-diffusion batch` reads URLs; give a path here")
            raise InputError(f"{prefix}{path}: no such file or folder")


@dataclass(frozen=True)
class Clicks:
    """Masks from prompts: X and Y are pixels from the top left corner; FRAME counts from 0 (default: 0).

    Attributes:
        point: point on the object; ID names the object (default: 1)
        negative_point: point outside the object, to exclude an area that the segmenter includes by mistake
        box: box around the visible part of the object
        text: what to find, such as 'person'; needs a segmenter for text prompts; each instance becomes an object
        segmenter: folder, Hugging Face Hub ID such as facebook/sam2.1-hiera-tiny, or name of a plug-in; if left out,
            masks come from colors and motion, which is less exact
    """

    point: Sequence[str] = option((), metavar="[ID:]X,Y@FRAME", several=True)
    negative_point: Sequence[str] = option((), metavar="[ID:]X,Y@FRAME", several=True, advanced=True)
    box: Sequence[str] = option((), metavar="[ID:]X0,Y0,X1,Y1@FRAME", several=True)
    text: Sequence[str] = option((), metavar="TEXT", several=True)
    segmenter: str | None = option(None, metavar="NAME")

    @property
    def prompts(self) -> Prompts | None:
        """The parsed prompts; None if there are none.

        Raises:
            InputError: if a prompt has another format than the help says.
        """
        from amodal_diffusion.completion.segmentation import read_prompts

        return read_prompts(self.point, self.negative_point, self.box, self.text)


@dataclass(frozen=True)
class SegmentRequest:
    """Input and output.

    Attributes:
        clip: a video file, a folder of pictures, or one picture, animated or not
        out: folder of the masks, with one folder of PNGs per object; whole or absent
        device: auto, cpu, cuda, cuda:1, mps
        dtype: auto, float32, float16, bfloat16
        overwrite: replace earlier results of this program in MASKS
        allow_truncated: use the frames of a damaged video that can be decoded
        bit_depth: bits of the values in pictures of 16 bits, such as 12; by the files if left out
        quiet: no progress bars
        yes: download what is not in the local cache without asking
    """

    clip: Path = option(metavar="CLIP", positional=True)
    out: Path = option(metavar="MASKS")
    device: str = option("auto", metavar="NAME")
    dtype: str = option("auto", metavar="NAME")
    overwrite: bool = option(False)
    allow_truncated: bool = option(False)
    bit_depth: int | None = option(None, metavar="N", read=read_bit_depth)
    quiet: bool = option(False, short="-q")
    yes: bool = option(False)


@dataclass(frozen=True)
class Output:
    """Output.

    Attributes:
        out: result folder; it appears only when the results are complete. `complete` without it takes CLIP_amodal
            beside the clip; `batch` needs the parent of all result folders
        stages: all: predict amodal masks and paint the hidden parts; masks: predict amodal masks only
        formats: comma-separated list of png (RGBA images), prores (ProRes 4444 MOV), webm (VP9 with alpha), mp4 and gif
            (over a color), psd and ora (all objects as layers over the frame), masks-mp4, davis (palette PNG), coco and
            youtube-vis (JSON), and scores (16-bit PNG of stage 1's scores); amodal masks are always written as PNG
            files with 0 and 255
        layer_frames: frames of psd and ora: all, a list such as 1,5,9 (counted from 0), or auto: the frame in which
            most is hidden
        over_color: background of mp4 and gif: a CSS color name or #rrggbb
        margin: outpainting margin on each side, as a share (0 to 1) of the frame's height or width; objects that the
            frame border cuts off are completed within it
        alpha: straight or premultiplied alpha of the layers
        soft_edge: width in pixels of a band around each object in which the alpha of its layer falls to 0; the object's
            own pixels are unchanged. By default 1 in psd and ora, else 0
        audio: copy the clip's audio into the output videos
        overwrite: replace earlier results of this program in DIR
        quiet: show no progress bars
    """

    out: Location | None = option(None, metavar="DIR", short="-o", read=read_out)
    stages: str = option("all", choices=("masks", "all"))
    formats: tuple[Format, ...] = option(("png",), metavar="LIST", read=read_formats)
    layer_frames: LayerFrames = option("auto", metavar="auto|all|LIST", read=read_layer_frames, advanced=True)
    over_color: str = option("white", metavar="COLOR", read=read_color)
    margin: NonNegativeFloat = option(0.0, metavar="SHARE")
    alpha: Alpha = option("straight", choices=get_args(Alpha), advanced=True)
    soft_edge: NonNegativeInt | None = option(None, metavar="N")
    audio: bool = option(False)
    overwrite: bool = option(False)
    quiet: bool = option(False, short="-q")


@dataclass(frozen=True)
class ModelChoice:
    """Model.

    Attributes:
        model: bundled model, folder, Hugging Face Hub ID, or diffusion-vas for the paper's released checkpoints
        content_model: model of stage 2, if it differs from --model; tiny beside another method than diffusion
        method: method of stage 1, see docs/methods.md. With --model the checkpoint tells it, and another one is an
            error; without, the method's bundled weights are used, which are tiny
        vae: light autoencoder (AutoencoderTiny) in place of the model's own, for the same latents: tiny (for those of
            Stable Video Diffusion), a folder or a Hub ID; faster and less exact
        device: auto, cpu, cuda, cuda:1 or mps; auto prefers a GPU
        dtype: auto, float32, float16 or bfloat16; auto is bfloat16 on a CUDA card that has it, float16 on others, else
            float32
        attention: attention implementation. sdpa: PyTorch's fused attention; plain: explicit matrix products; xformers:
            memory-efficient attention on a GPU, needs the xformers extra
        offload: weights that wait in CPU memory while a GPU does not need them. none: no weights; model: all but one
            network; sequential: all but one layer, which takes the least GPU memory and the most time
        compile: compile the UNet with torch.compile; the first window takes minutes longer, later ones are faster
        cuda_graphs: capture the UNet's pass as a CUDA graph, which helps where the GPU waits for the program
        channels_last: keep images with channels innermost in 2-D convolutions
        yes: download what is not in the local cache without asking
    """

    model: str = option(DEFAULT_MODEL, metavar="NAME")
    content_model: str | None = option(None, metavar="NAME", advanced=True)
    method: str | None = option(None, choices=tuple(METHODS), advanced=True)
    vae: str | None = option(None, metavar="NAME", advanced=True)
    device: str = option("auto", metavar="NAME")
    dtype: str = option("auto", metavar="NAME", advanced=True)
    attention: Attention = option("sdpa", choices=get_args(Attention), advanced=True)
    offload: Offload = option("none", choices=get_args(Offload), advanced=True)
    compile: bool = option(False, advanced=True)
    cuda_graphs: bool = option(False, advanced=True)
    channels_last: bool = option(False, advanced=True)
    yes: bool = option(False, advanced=True)


@dataclass(frozen=True)
class DepthChoice:
    """Depth.

    Attributes:
        depth: auto: estimate depth if the model names a depth network; none: use no depth; PATH: a folder of 16-bit PNG
            files or an .npy file [F,H,W], in which larger values are nearer
        depth_inverse: the depth files contain distances, in which smaller values are nearer
        depth_model: depth network to use instead of the one that the model names: small or large (Depth Anything V2),
            folder, or Hugging Face Hub ID
    """

    depth: str = option("auto", metavar="auto|none|PATH")
    depth_inverse: bool = option(False, advanced=True)
    depth_model: str | None = option(None, metavar="NAME")


@dataclass(frozen=True)
class SamplingChoice:
    """Sampling.

    Attributes:
        preset: fast: few steps; default: the checkpoint's own settings; paper: inference as in the paper, with 25 Euler
            steps, guidance 1.5 and no filters. If left out, released checkpoints use paper, others default
        steps: number of denoising steps
        guidance: classifier-free guidance scale
        seed: random seed; the same seed gives the same result
        samples: number of stage 1 samples per object. The amodal mask is their majority vote; the masks of each sample,
            a video of their differences and their agreement are written too
        skip_unoccluded: run the networks only on frames in which an object may be occluded, and on some around them
        scheduler: sampling method; heun takes two network passes per step, dpmpp is DPM-Solver++
        height: height in pixels at which the networks run
        width: width in pixels at which the networks run
        fit: how frames are fitted to the size of the networks; by default as the checkpoint says
        resample: pil: resize with antialiasing; cv2: without antialiasing, as in the reference implementation
        conditioning: released: condition as in the reference implementation, to reproduce the paper's numbers with the
            published checkpoints
        mask_threshold: stage 1's score, 0 to below 1, above which a pixel belongs to the object, in every frame; by
            default as the checkpoint says
        mask_filters: filters against hallucinated shape: all, none, or a comma-separated list of depth, components and
            area
        mask_propagation: take hidden parts from other frames that show them, where the motion is found well
        color_propagation: take the color of hidden pixels from other frames where it is reliable
        seam_blending: shift painted colors by what the painting gets wrong in visible pixels nearby
        shrink_mask: repaint the outermost N pixels of the visible part too, in which the colors of what hides the
            object may have mixed in; masks are not changed
        tta: test-time augmentation of stage 1: mean over 1, 2 or 4 passes
        object_batch: number of objects that are completed in one network call; memory use grows with it
        decode_chunk_size: frames that the VAE decodes together; memory use grows with it, and hidden pixels depend on
            it slightly. By default as the preset says
        encode_chunk_size: frames that the VAE encodes together, which changes the result by rounding alone; by
            default as many as the free memory of the GPU allows
    """

    preset: Preset | None = option(None, choices=get_args(Preset))
    steps: PositiveInt | None = option(None, metavar="N")
    guidance: PositiveFloat | None = option(None, metavar="G")
    seed: NonNegativeInt = option(0, metavar="S")
    samples: PositiveInt | None = option(None, metavar="K")
    skip_unoccluded: bool | None = option(None, advanced=True)
    scheduler: Scheduler | None = option(None, choices=get_args(Scheduler), advanced=True)
    height: PositiveInt | None = option(None, metavar="H", advanced=True)
    width: PositiveInt | None = option(None, metavar="W", advanced=True)
    fit: Fit | None = option(None, choices=get_args(Fit), advanced=True)
    resample: Resample | None = option(None, choices=get_args(Resample), advanced=True)
    conditioning: Conditioning | None = option(None, choices=get_args(Conditioning), advanced=True)
    mask_threshold: float | None = option(None, metavar="X", read=read_threshold, advanced=True)
    mask_filters: tuple[MaskFilter, ...] | None = option(None, metavar="LIST", read=read_filters, advanced=True)
    mask_propagation: bool | None = option(None, advanced=True)
    color_propagation: bool | None = option(None, advanced=True)
    seam_blending: bool | None = option(None, advanced=True)
    shrink_mask: NonNegativeInt | None = option(None, metavar="N")
    tta: PositiveInt | None = option(None, metavar="N", advanced=True)
    object_batch: PositiveInt = option(1, metavar="N", advanced=True)
    decode_chunk_size: PositiveInt | None = option(None, metavar="N", advanced=True)
    encode_chunk_size: PositiveInt | None = option(None, metavar="N", advanced=True)

    def changes(self) -> dict[str, Any]:
        """Arguments of :meth:`AmodalCompleter.config`, under the names of `SamplingConfig`."""
        values = {name: value for name, value in asdict(self).items() if name not in ("seed", "object_batch")}
        return {"num_inference_steps": values.pop("steps"), "guidance_scale": values.pop("guidance"), **values}


@dataclass(frozen=True)
class CompletionRequest:
    """All options of `amodal-diffusion complete`, in the groups of its help.

    Attributes:
        source: the clip and its masks.
        output: result folder and formats.
        clicks: prompts for a segmenter, instead of masks.
        model: the networks, their device and precision.
        depth: source of the depth maps.
        sampling: sampling settings of the networks.
        copied_from: what local copies of inputs are called in records, by their path.
    """

    source: Source
    output: Output
    clicks: Clicks = Clicks()
    model: ModelChoice = ModelChoice()
    depth: DepthChoice = DepthChoice()
    sampling: SamplingChoice = SamplingChoice()
    copied_from: Mapping[str, str] = field(default_factory=dict)

    @property
    def out(self) -> Path:
        """The result folder: by default beside the clip, named after it.

        Raises:
            InputError: if it is given by URL.
        """
        if self.output.out is not None:
            folder = local_path(self.output.out)
            if folder is None:
                raise InputError(
                    f"--out: {public_name(self.output.out)}: expected a folder; `amodal-diffusion batch` writes to "
                    "buckets"
                )
            return folder
        clip = self.source.clip.resolve()
        return clip.with_name(f"{clip.name if clip.is_dir() else clip.stem}_amodal")

    @property
    def painted(self) -> bool:
        """Whether stage 2 runs."""
        return self.output.stages == "all" and self.source.from_scores is None

    @property
    def stage_names(self) -> StageNames:
        """The models of the stages that run; of none where masks are cut from scores."""
        stages: list[Stage] = []
        if self.source.amodal_masks is None and self.source.from_scores is None:
            stages.append("amodal_segmentation")
        if self.painted:
            stages.append("content_completion")
        return StageNames(self.model.model, self.model.content_model, self.model.method, stages)

    def settings(self) -> dict[str, object]:
        """All settings that the results depend on, as JSON values; input files are not included."""
        files = ("clip", "masks", "amodal_masks", "from_scores", "out")
        without_effect = ("allow_truncated", "dry_run", "overwrite", "quiet", "yes", "offload", "object_batch")
        groups = (self.source, self.output, self.clicks, self.model, self.depth, self.sampling)
        given = {name: value for group in groups for name, value in asdict(group).items()}
        values = {name: value for name, value in given.items() if name not in (*files, *without_effect)}
        values["depth"] = self.name_of(self.depth.depth)
        return {**values, "version": package_version()}

    def name_of(self, path: str) -> str:
        """What a path is called in records: the URL of which it is a copy, else the path itself."""
        return self.copied_from.get(path, path)

    def inputs(self) -> dict[str, InputRecord]:
        """The input files that the results depend on, by argument."""
        paths: dict[str, Path | None] = {
            "clip": self.source.clip,
            "masks": self.source.masks,
            "amodal_masks": self.source.amodal_masks,
            "from_scores": self.source.from_scores,
            "depth": None if self.depth.depth in ("auto", "none") else Path(self.depth.depth),
        }
        return _recorded(paths) | self.network_inputs()

    def network_inputs(self) -> dict[str, InputRecord]:
        """The folders of networks among them, which are the same for all clips of a list."""
        paths = {
            "segmenter": model_folder(self.clicks.segmenter),
            "model": self.stage_names.local(),
            "content_model": model_folder(self.model.content_model),
            "vae": model_folder(self.model.vae),
            "depth_model": model_folder(self.depth.depth_model),
        }
        return _recorded(paths)


def _recorded(paths: Mapping[str, Path | None]) -> dict[str, InputRecord]:
    from amodal_diffusion.io.result_folder import InputRecord

    return {name: InputRecord.of(path) for name, path in paths.items() if path is not None}


GROUPS: dict[str, type[Any]] = {
    "source": Source,
    "clicks": Clicks,
    "output": Output,
    "model": ModelChoice,
    "depth": DepthChoice,
    "sampling": SamplingChoice,
}
"""The option groups of `complete`, by their field in the request, in the order of its help."""


def check_method(request: CompletionRequest, method: str) -> None:
    """Refuse options that do nothing beside a method of stage 1.

    Args:
        request: the options of `complete`.
        method: that predicts the masks, whether it is named or the checkpoint tells.

    Raises:
        InputError: names the first option.
    """
    replaced = {"--amodal-masks": request.source.amodal_masks, "--from-scores": request.source.from_scores}
    for name, value in replaced.items():
        if value is not None and request.model.method is not None:
            raise InputError(f"--method: chooses stage 1, which {name} replaces; leave one of them out")
    if method == DIFFUSION or "amodal_segmentation" not in request.stage_names.stages:
        return
    model, idle = asdict(request.model), ("dtype", "attention", *OF_NETWORKS)
    given = {
        name: value for name, value in asdict(request.sampling).items() if value != getattr(SamplingChoice(), name)
    }
    if given.get("samples") == 1:
        del given["samples"]
    for name in OF_DIFFUSION:
        if name in given:
            raise InputError(
                f"{flag_of(name)}: is for the masks of diffusion, and {method} predicts them; leave it out"
            )
    given |= {name: model[name] for name in idle if model[name] != getattr(ModelChoice(), name)}
    for name in given:
        if not request.painted and name not in _OF_ALL_METHODS:
            raise InputError(
                f"{flag_of(name)}: is for diffusion, which --stages masks with {method} does not use; leave it out"
            )


def flag_of(name: str) -> str:
    """The option of a field, such as ``--mask-filters``."""
    return f"--{name.replace('_', '-')}"


def model_folder(name: str | None) -> Path | None:
    """Local folder of a model: a bundled one, or the user's own; None if the model would have to be downloaded.

    Args:
        name: name, folder or hub ID that the user gave, or None.
    """
    if name is None:
        return None
    bundled = Path(str(files("amodal_diffusion"))) / "weights" / name
    folder = bundled if Path(name).name == name and bundled.is_dir() else Path(name)
    return folder if folder.is_dir() else None
