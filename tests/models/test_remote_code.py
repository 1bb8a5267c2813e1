"""No code of a checkpoint runs: not by its settings, not by pickled weights, whatever a terminal answers."""

from __future__ import annotations

import ast
import io
import json
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import amodal_diffusion
from amodal_diffusion.basics import InputError
from amodal_diffusion.io.atomic import DIGESTS
from amodal_diffusion.models.depth import DepthEstimator
from amodal_diffusion.models.hub import load_stage
from amodal_diffusion.models.saving import save_stage
from amodal_diffusion.models.segmenters.loading import load_segmenter
from amodal_diffusion.models.weights import find_variant
from tests.factories import tiny_components, tiny_depth_folder
from tests.segmenters import tiny_sam3_folder, tiny_segmenter_folder

PACKAGE = Path(amodal_diffusion.__file__).parent
LOADERS = {"from_pretrained", "from_config"}
FORBIDDEN = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}


def trees() -> Iterator[tuple[Path, ast.Module]]:
    files = sorted(PACKAGE.rglob("*.py"))
    assert len(files) > 150
    return ((file, ast.parse(file.read_text(encoding="utf-8"))) for file in files)


def problems_of(tree: ast.AST) -> Iterator[str]:
    """What in a module could run code of a checkpoint."""
    for node in ast.walk(tree):
        if isinstance(node, ast.keyword) and node.arg == "trust_remote_code":
            if not isinstance(node.value, ast.Constant) or node.value.value is not False:
                yield f"{node.value.lineno}: trust_remote_code is not False"
        elif isinstance(node, ast.Constant) and node.value == "trust_remote_code":
            yield f"{node.lineno}: trust_remote_code as text"
        elif isinstance(node, ast.Import | ast.ImportFrom):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            yield from (f"{node.lineno}: {name}" for name in modules if name.split(".")[0] in FORBIDDEN)
        elif isinstance(node, ast.Call):
            yield from problems_of_call(node)


def problems_of_call(call: ast.Call) -> Iterator[str]:
    function = ast.unparse(call.func)
    given = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
    owner, _, name = function.rpartition(".")
    is_auto = owner.split(".")[-1].startswith("Auto") and not owner.startswith(("Autoencoder", "cls"))
    by_name = name == "_load" and any(isinstance(arg, ast.Constant) and "Auto" in str(arg.value) for arg in call.args)
    if ((name in LOADERS and is_auto) or by_name) and given.get("trust_remote_code") != "False":
        yield f"{call.lineno}: {function} asks on the terminal whether code may run"  # transformers' default
    if function == "torch.load" or (function in ("np.load", "numpy.load") and given.get("allow_pickle") != "False"):
        yield f"{call.lineno}: {function} reads pickles"


def test_no_module_lets_code_of_a_checkpoint_run() -> None:
    assert [f"{file.name}:{problem}" for file, tree in trees() for problem in problems_of(tree)] == []


@pytest.mark.parametrize(
    "code",
    [
        "AutoConfig.from_pretrained(x)",
        "transformers.AutoModel.from_config(x, trust_remote_code=True)",
        "Model.from_pretrained(x, trust_remote_code=option)",
        'Model.from_pretrained(x, **{"trust_remote_code": True})',
        '_load("AutoTokenizer", x)',
        "torch.load(x, weights_only=True)",
        "np.load(x)",
        "import pickle",
        "from joblib import load",
    ],
)
def test_the_search_finds_what_it_looks_for(code: str) -> None:
    assert list(problems_of(ast.parse(code)))


@pytest.fixture
def marker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that exists once code of a checkpoint ran; whoever asks on the terminal is told yes."""
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n" * 20))
    return tmp_path / "ran"


def with_code(folder: Path, marker: Path, *, file: str = "config.json", **changes: object) -> Path:
    """Put a module into a checkpoint and name it in the settings for everything that transformers makes."""
    (folder / "evil.py").write_text(f"open({str(marker)!r}, 'w')\nclass Evil: ...\n")
    values = json.loads((folder / file).read_text()) if (folder / file).is_file() else {}
    makers = (
        "AutoConfig",
        "AutoModel",
        "AutoModelForDepthEstimation",
        "AutoModelForImageSegmentation",
        "AutoProcessor",
    )
    codes: dict[str, object] = dict.fromkeys((*makers, "AutoImageProcessor"), "evil.Evil")
    values |= {"auto_map": {**codes, "AutoTokenizer": ["evil.Evil", "evil.Evil"]}, **changes}
    (folder / file).write_text(json.dumps(values))
    return folder


def test_depth_networks_run_none_of_it(tmp_path: Path, marker: Path) -> None:
    folder = with_code(tiny_depth_folder(tmp_path / "depth"), marker)
    with_code(folder, marker, file="preprocessor_config.json")
    DepthEstimator.from_pretrained(folder)  # a network that transformers has itself
    with_code(folder, marker, model_type="evil")
    with pytest.raises(InputError, match=r"depth model .*: cannot be loaded"):
        DepthEstimator.from_pretrained(folder)
    assert not marker.exists()


def test_segmenters_run_none_of_it(tmp_path: Path, marker: Path) -> None:
    load_segmenter(str(with_code(tiny_segmenter_folder(tmp_path / "sam2"), marker)))
    sam3 = with_code(tiny_sam3_folder(tmp_path / "sam3"), marker)
    with_code(sam3, marker, file="tokenizer_config.json")
    load_segmenter(str(sam3))
    with pytest.raises(InputError, match="is a evil model, expected one of"):
        load_segmenter(str(with_code(sam3, marker, model_type="evil")))
    assert not marker.exists()


def test_stages_run_none_of_it(tmp_path: Path, marker: Path) -> None:
    save_stage(tiny_components(), tmp_path / "stage")
    (tmp_path / "stage" / DIGESTS).unlink()  # whoever puts code there writes none
    for part in ("unet", "vae", "image_encoder"):
        with_code(tmp_path / "stage" / part, marker)
    with_code(tmp_path / "stage" / "scheduler", marker, file="scheduler_config.json")
    (tmp_path / "stage/model_index.json").write_text(
        json.dumps({"_class_name": ["evil", "Evil"], "unet": ["evil", "Evil"]})
    )
    load_stage(tmp_path / "stage", stage="amodal_segmentation")
    assert not marker.exists()


class Pickled:
    """Touches a file when it is read."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return open, (str(self.marker), "w")


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.ckpt", "model.pt", "model.pth", "model.pkl"])
def test_pickled_weights_are_refused_in_one_line(tmp_path: Path, marker: Path, name: str) -> None:
    folder = tiny_depth_folder(tmp_path / "depth")
    (folder / "model.safetensors").unlink()
    (folder / name).write_bytes(pickle.dumps(Pickled(marker)))
    with pytest.raises(InputError, match=f"found .*{name}.*; pickle files can run code and are never loaded") as error:
        DepthEstimator.from_pretrained(folder)
    assert "\n" not in str(error.value)
    assert not marker.exists()


@pytest.mark.parametrize("name", ["pytorch_model.bin", "../outside.safetensors", "/etc/model.safetensors"])
def test_an_index_of_shards_names_safetensors_beside_it_alone(tmp_path: Path, marker: Path, name: str) -> None:
    folder = tiny_depth_folder(tmp_path / "depth")
    (folder / "model.safetensors").unlink()
    torch.save(Pickled(marker), folder / "pytorch_model.bin")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": {"a": name}}))
    for load in (find_variant, lambda folder, _: DepthEstimator.from_pretrained(folder)):
        with pytest.raises(InputError, match="expected names of safetensors files beside it, got"):
            load(folder, "model")
    assert not marker.exists()
