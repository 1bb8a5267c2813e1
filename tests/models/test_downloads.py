"""Which files of a repository are downloaded, and where downloaded files come from."""

from __future__ import annotations

from pathlib import Path

import pytest

from amodal_diffusion.basics import InputError
from amodal_diffusion.models.downloads import SOURCE_FILE, Source, choose_files, read_source

PARTS = ["unet/config.json", "vae/config.json", "model_index.json"]
UNET, VAE = "unet/diffusion_pytorch_model", "vae/diffusion_pytorch_model"


@pytest.mark.parametrize(
    ("weights", "half", "full"),
    [
        ([f"{UNET}.safetensors", f"{UNET}.fp16.safetensors"], [f"{UNET}.fp16.safetensors"], [f"{UNET}.safetensors"]),
        ([f"{UNET}.safetensors", f"{VAE}.fp16.safetensors"], None, None),
        ([f"{UNET}.safetensors", f"{UNET}.non_ema.safetensors"], [f"{UNET}.safetensors"], [f"{UNET}.safetensors"]),
        (
            [
                f"{UNET}-00001-of-00002.safetensors",
                f"{UNET}-00002-of-00002.safetensors",
                f"{UNET}.safetensors.index.json",
                f"{UNET}.fp16-00001-of-00001.safetensors",
                f"{UNET}.safetensors.index.fp16.json",
            ],
            [f"{UNET}.fp16-00001-of-00001.safetensors", f"{UNET}.safetensors.index.fp16.json"],
            [
                f"{UNET}-00001-of-00002.safetensors",
                f"{UNET}-00002-of-00002.safetensors",
                f"{UNET}.safetensors.index.json",
            ],
        ),
        (["svd_xt.safetensors", f"{UNET}.safetensors"], [f"{UNET}.safetensors"], [f"{UNET}.safetensors"]),
        (["model.safetensors"], None, None),
        (["amodal_segmentation/unet/model.safetensors"], None, None),
    ],
    ids=["both", "either", "other variants", "shards", "all in one", "flat", "both stages"],
)
def test_weights_of_one_variant_a_folder(weights: list[str], half: list[str] | None, full: list[str] | None) -> None:
    others = ["README.md", "unet/model.py", f"{UNET}.bin", "merges.txt", ".gitattributes"]
    assert choose_files([*weights, *PARTS, *others]) == sorted([*(half or weights), *PARTS])
    assert choose_files([*weights, *PARTS, *others], half=False) == sorted([*(full or weights), *PARTS])


def test_further_files_on_request() -> None:
    assert choose_files(["merges.txt", "a.py", "config.json"], suffixes=(".txt",)) == ["config.json", "merges.txt"]


def test_where_files_come_from(tmp_path: Path) -> None:
    cached = tmp_path / "models--owner--some-name" / "snapshots" / ("0" * 40)
    assert read_source(cached) == Source("owner/some-name", "0" * 40)
    assert read_source(tmp_path) is None
    (tmp_path / SOURCE_FILE).write_text('{"repository": "owner/name"}')
    with pytest.raises(InputError, match="expected repository and commit"):
        read_source(tmp_path)
