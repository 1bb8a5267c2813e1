"""Hub ids with a revision go to the hub as they are meant, without a network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import transformers

from amodal_diffusion.evaluation.methods import build_methods
from amodal_diffusion.models import depth, hub, hub_ids
from amodal_diffusion.models.hub import RELEASED, check_names_stages, find_model
from amodal_diffusion.models.hub_ids import HubId, hub_place
from amodal_diffusion.models.segmenters.loading import load_segmenter
from amodal_diffusion.types import STAGES, InputError


@pytest.mark.parametrize(
    ("text", "repository", "revision"),
    [
        ("owner/name", "owner/name", "main"),
        ("owner/name@main", "owner/name", "main"),
        ("facebook/sam2.1-hiera-tiny@v1.0", "facebook/sam2.1-hiera-tiny", "v1.0"),
        ("o_1/n.2@refs/pr/3", "o_1/n.2", "refs/pr/3"),
        (
            "owner/name@0c5f8c54321b08c451d7680e12892f8017f819ca",
            "owner/name",
            "0c5f8c54321b08c451d7680e12892f8017f819ca",
        ),
    ],
)
def test_an_id_may_carry_a_revision(text: str, repository: str, revision: str) -> None:
    assert HubId.parse(text) == HubId(repository, revision)
    assert hub_place(text) == (repository, revision)


@pytest.mark.parametrize(
    "text",
    [
        "name",
        "a/b/c",
        "../b",
        "/a/b",
        "./b",
        "a/b@",
        "a/b@..",
        "a/b@x/../y",
        "a/b@/x",
        "a/b@v1@v2",
        "a b/c",
        "@x",
        "a/b@-x",
    ],
)
def test_other_texts_are_no_ids(text: str) -> None:
    assert HubId.parse(text) is None


class Hub:
    """Stands where `snapshot_download` does."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.asked: list[tuple[str, str, bool]] = []

    def __call__(self, repository: str, *, revision: str, allow_patterns: list[str], local_files_only: bool) -> str:
        assert not [pattern for pattern in allow_patterns if not pattern.endswith((".json", ".safetensors", ".txt"))]
        self.asked.append((repository, revision, local_files_only))
        return str(self.folder)


@pytest.fixture
def download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    found = Hub(tmp_path)
    monkeypatch.setattr(hub_ids, "snapshot_download", found)
    return found


def test_models_and_segmenters_are_asked_for_at_their_revision(download: Hub) -> None:
    assert find_model("owner/name@v2") == download.folder
    assert find_model("owner/name", download=False) == download.folder
    with pytest.raises(InputError, match="no such file; expected a model's settings there"):
        load_segmenter("owner/sam@v3")
    assert download.asked == [("owner/name", "v2", False), ("owner/name", "main", True), ("owner/sam", "v3", False)]


def test_a_released_name_is_one_repository_a_stage(download: Hub) -> None:
    for stage in STAGES:
        assert find_model("diffusion-vas@v1", stage=stage) == download.folder
        assert download.asked.pop() == (RELEASED["diffusion-vas"][stage], "v1", False)
    find_model("diffusion-vas", stage="content_completion")
    assert download.asked.pop() == ("kaihuac/diffusion-vas-content-completion", "main", False)
    check_names_stages("diffusion-vas")  # says its stages
    with pytest.raises(InputError, match="names one checkpoint a stage; name kaihuac/diffusion-vas-amodal-seg"):
        find_model("diffusion-vas")
    assert not download.asked


def test_a_folder_whose_name_is_an_id_counts_before(
    download: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "owner/name@v1").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert find_model("owner/name@v1") == Path("owner/name@v1")
    assert hub_place("owner/name@v1") == ("owner/name@v1", "main")
    assert not download.asked


def test_depth_networks_are_asked_for_at_their_revision(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, Any, Any]] = []

    def from_pretrained(name: str, **options: Any) -> None:
        asked.append((name, options["revision"], options["trust_remote_code"]))
        raise OSError("not here")

    monkeypatch.setattr(transformers.AutoModelForDepthEstimation, "from_pretrained", from_pretrained)
    with pytest.raises(InputError, match=r"depth model owner/depth@v2: cannot be loaded .not here."):
        depth.DepthEstimator.from_pretrained("owner/depth@v2")
    assert asked == [("owner/depth", "v2", False)]


def test_in_methods_a_final_depth_is_the_depth(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def find(name: str, **_: Any) -> Path:
        asked.append(name)
        return hub.bundled_models()["tiny"]

    monkeypatch.setattr(hub, "find_model", find)
    methods = build_methods(["owner/name@v2@depth", "owner/name@v2", "owner/name@depth"])
    assert [method.uses_depth for method in methods] == [True, False, True]
    assert set(asked) == {"owner/name@v2", "owner/name"}
    assert [method.name for method in methods] == ["owner/name@v2@depth", "owner/name@v2", "owner/name@depth"]


@pytest.mark.parametrize("suffix", [".ckpt", ".pt", ".bin", ".pth"])
def test_a_pickled_file_is_refused_in_one_line(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"model{suffix}").write_bytes(b"\x80\x04")
    with pytest.raises(InputError, match=r"is a file, expected a folder .* can run code and are never loaded") as error:
        find_model(tmp_path / f"model{suffix}")
    assert "\n" not in str(error.value)
