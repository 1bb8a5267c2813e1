"""Models by name and folder: every layout loads, everything wrong is listed, no pickle is read."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from amodal_diffusion.basics import InputError
from amodal_diffusion.io.atomic import DIGESTS
from amodal_diffusion.models.checkpoint import SETTINGS_FILE
from amodal_diffusion.models.hub import find_model, load_scheduler, load_stage, load_svd
from amodal_diffusion.models.saving import save_stage
from tests.factories import tiny_completer_folder, tiny_components, tiny_unet


@pytest.fixture
def stage(tmp_path: Path) -> Path:
    """A single-stage checkpoint in the package's layout."""
    save_stage(tiny_components(), tmp_path / "stage")
    (tmp_path / "stage" / DIGESTS).unlink()  # as a folder that another program wrote; what is done to it is not damage
    return tmp_path / "stage"


def test_a_stage_comes_back_as_it_was_saved(stage: Path) -> None:
    loaded, saved = load_stage(stage, stage="amodal_segmentation"), tiny_components()
    assert loaded.settings == saved.settings
    for name in ("unet", "vae", "image_encoder"):
        ours, theirs = getattr(loaded, name).state_dict(), getattr(saved, name).state_dict()
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert not loaded.vae.training
    assert type(loaded.scheduler) is type(saved.scheduler)


def test_half_precision_keeps_the_vae_in_float32_where_its_settings_ask(tmp_path: Path) -> None:
    folder = tiny_completer_folder(tmp_path / "model")
    (folder / DIGESTS).unlink()
    for upcast, expected in ((True, torch.float32), (False, torch.float16)):
        config = json.loads((folder / "vae" / "config.json").read_text())
        (folder / "vae" / "config.json").write_text(json.dumps({**config, "force_upcast": upcast}))
        loaded = load_stage(folder, stage="amodal_segmentation", dtype=torch.float16)
        assert loaded.unet.dtype == torch.float16
        assert loaded.vae.dtype == expected


def test_a_stage_that_is_not_there_is_named(stage: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no content_completion stage"):
        load_stage(stage, stage="content_completion")
    model = tiny_completer_folder(tmp_path / "model")
    shutil.rmtree(model / "content_completion")
    with pytest.raises(InputError, match="holds no content_completion stage; found amodal_segmentation"):
        load_stage(model, stage="content_completion")


@pytest.mark.parametrize("part", ["unet", "vae", "image_encoder", "scheduler"])
def test_a_missing_part_is_named(stage: Path, part: str) -> None:
    shutil.rmtree(stage / part)
    with pytest.raises(InputError, match=f"no {part}/ here or one folder up; a checkpoint has unet, vae"):
        load_stage(stage, stage="amodal_segmentation")


@pytest.mark.parametrize(
    ("part", "stem"),
    [("unet", "diffusion_pytorch_model"), ("vae", "diffusion_pytorch_model"), ("image_encoder", "model")],
)
def test_pickles_are_never_loaded(stage: Path, part: str, stem: str) -> None:
    (stage / part / f"{stem}.safetensors").rename(stage / part / f"{stem}.bin")
    with pytest.raises(InputError, match=r"pickle files can run code and are never loaded"):
        load_stage(stage, stage="amodal_segmentation")


@pytest.mark.parametrize(("part", "stem"), [("vae", "diffusion_pytorch_model"), ("image_encoder", "model")])
def test_missing_and_unexpected_keys_are_listed(stage: Path, part: str, stem: str) -> None:
    path = stage / part / f"{stem}.safetensors"
    state = load_file(path)
    first = sorted(state)[0]
    state["surprise.weight"] = state.pop(first)
    save_file(state, path, metadata={"format": "pt"})
    with pytest.raises(InputError, match=rf"missing keys: {first}; unexpected keys: surprise.weight"):
        load_stage(stage, stage="amodal_segmentation")


def test_damaged_weights_are_named(stage: Path) -> None:
    path = stage / "unet" / "diffusion_pytorch_model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(InputError, match="not a safetensors file"):
        load_stage(stage, stage="amodal_segmentation")


def test_shards_are_joined(stage: Path) -> None:
    folder = stage / "unet"
    state = load_file(folder / "diffusion_pytorch_model.safetensors")
    (folder / "diffusion_pytorch_model.safetensors").unlink()
    keys, index = sorted(state), {}
    for number, part in enumerate((keys[::2], keys[1::2])):
        name = f"diffusion_pytorch_model-0000{number + 1}-of-00002.safetensors"
        save_file({key: state[key] for key in part}, folder / name)
        index |= dict.fromkeys(part, name)
    path = folder / "diffusion_pytorch_model.safetensors.index.json"
    path.write_text(json.dumps({"weight_map": index}))
    loaded = load_stage(stage, stage="amodal_segmentation").unet.state_dict()
    assert all(torch.equal(loaded[key], state[key]) for key in state)
    (folder / name).unlink()
    with pytest.raises(InputError, match="missing, though the index of shards names it"):
        load_stage(stage, stage="amodal_segmentation")


def test_a_plain_base_is_inflated(stage: Path) -> None:
    shutil.rmtree(stage / "unet")
    (stage / SETTINGS_FILE).unlink()
    tiny_unet(in_channels=8).save_pretrained(stage / "unet")
    assert load_svd(stage, stage="content_completion").unet.config.in_channels == 12


def test_unknown_names_say_what_is_bundled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(
        InputError,
        match="model tyni: no bundled model, folder or hub id of this name; did you mean tiny\\? bundled are",
    ):
        find_model("tyni")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"_class_name": "DDIMScheduler"}, "expected one of EulerDiscreteScheduler"),
        ({"prediction_type": "epsilon"}, "expected prediction_type v_prediction"),
        ({"sigma_data": 0.5}, "sigma_data 1.0"),
    ],
)
def test_a_sampler_that_was_not_trained_for_is_refused(stage: Path, change: dict[str, object], message: str) -> None:
    path = stage / "scheduler" / "scheduler_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(InputError, match=message):
        load_scheduler(stage / "scheduler")


@pytest.mark.parametrize("name", ["amodal_segmentation/unet/diffusion_pytorch_model.safetensors", "vae/config.json"])
def test_one_flipped_bit_is_noticed(tmp_path: Path, name: str) -> None:
    folder = tiny_completer_folder(tmp_path / "model")
    data = bytearray((folder / name).read_bytes())
    data[-20] ^= 1
    (folder / name).write_bytes(data)
    with pytest.raises(
        InputError, match=f"{name} is not what was written; restore the file, or delete .*manifest.json"
    ):
        load_stage(folder, stage="amodal_segmentation")
    if name.startswith("amodal_segmentation"):  # of which stage 2 reads nothing
        assert load_stage(folder, stage="content_completion").settings.stage == "content_completion"


@pytest.mark.parametrize(
    ("file", "change"),
    [
        ("unet/config.json", {"block_out_channels": None}),
        ("unet/config.json", {"num_attention_heads": 0}),
        ("unet/config.json", {"down_block_types": [""]}),
        ("vae/config.json", {"layers_per_block": []}),
        ("vae/config.json", {"block_out_channels": "32"}),
        ("image_encoder/config.json", {"intermediate_size": {}}),
        ("image_encoder/config.json", {"hidden_act": 7}),
        ("scheduler/scheduler_config.json", {"num_train_timesteps": "x"}),
    ],
)
def test_damaged_settings_of_a_network_are_one_line(stage: Path, file: str, change: dict[str, object]) -> None:
    path = stage / file
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(InputError, match=rf"{path.parent}: ") as error:
        load_stage(stage, stage="amodal_segmentation")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("part", "name"),
    [
        ("amodal_segmentation/unet", "layers_per_block"),
        ("vae", "layers_per_block"),
        ("image_encoder", "num_hidden_layers"),
    ],
)
def test_layers_without_end_are_refused(tmp_path: Path, part: str, name: str) -> None:
    """Even a network without memory for weights takes time for each layer."""
    model = tiny_completer_folder(tmp_path / "model")
    (model / "manifest.json").unlink(missing_ok=True)
    config = model / part / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), name: 2**63}))
    with pytest.raises(InputError, match=f"{name}: expected at most 1000, got 9.22337e"):
        load_stage(model, stage="amodal_segmentation")
