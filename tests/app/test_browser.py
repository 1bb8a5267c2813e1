"""The page in a browser, driven as a visitor would: example, paint, upload, run, stop, look, download."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, Request, expect, sync_playwright

from tests.app.web import free_port
from tests.app.web import page as served
from tests.media import encode, moving_disc, write_masks

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
PICTURES = Path(__file__).resolve().parents[2] / "out" / "app"
MINUTE = 60_000
RGB, MASK = moving_disc(5, 96, 160)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here; on Debian: apt-get install chromium"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the command under test keeps its temporary files."""
    return tmp_path_factory.mktemp("temporary")


@pytest.fixture(scope="module")
def url(folder: Path) -> Iterator[str]:
    """The command, as a user starts it; it ends by SIGTERM and leaves nothing."""
    port = str(free_port())
    command = [sys.executable, "-m", "amodal_diffusion", "app", "--port", port, "--device", "cpu", "--max-frames", "20"]
    environment = {**os.environ, "TMPDIR": str(folder)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline().strip()
            assert line == f"http://127.0.0.1:{port}/"
            assert len(files_of_pages(folder)) == 1
            yield line
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 128 + signal.SIGTERM
        finally:
            process.kill()
    assert files_of_pages(folder) == []


def files_of_pages(folder: Path) -> list[Path]:
    return list(folder.glob("amodal-diffusion-app-*"))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def page(browser: Browser, url: str) -> Iterator[Page]:
    """The page, opened by a new visitor; fails if any request goes to another host."""
    elsewhere: list[str] = []

    def note(request: Request) -> None:
        parts = urlsplit(request.url)
        if parts.scheme not in ("data", "blob") and parts.netloc != urlsplit(url).netloc:
            elsewhere.append(request.url)

    context = browser.new_context(viewport={"width": 1400, "height": 1100}, accept_downloads=True)
    context.set_default_timeout(MINUTE)
    context.on("request", note)
    opened = context.new_page()
    opened.goto(url)
    expect(opened.locator("#status")).to_contain_text("Load an example", timeout=MINUTE)
    yield opened
    context.close()
    assert elsewhere == []


def load_example(page: Page, title: str = "Mushroom behind a fence") -> None:
    page.get_by_role("button", name=title).click()
    expect(page.locator("#status")).to_contain_text("Ready", timeout=MINUTE)
    expect(page.locator("#painted")).to_contain_text("Frame 0 of 15", timeout=MINUTE)


def complete(page: Page) -> None:
    page.locator("#complete").click()
    expect(page.locator("#status")).to_contain_text("Done", timeout=4 * MINUTE)


def source(page: Page, pane: int) -> str:
    return str(page.locator("#viewer img").nth(pane).get_attribute("src"))


def picture(page: Page, pane: int) -> np.ndarray:
    """What a pane shows, as its file."""
    answer = page.request.get(f"{page.url}{source(page, pane)}")
    assert answer.ok
    return np.asarray(Image.open(io.BytesIO(answer.body())).convert("RGB"))


def paint(page: Page, across: float, down: float, noted: str) -> None:
    """Paint on the easel, at a share of its size, again until it is noted: no sign tells when a frame is there."""
    box = page.locator("#easel canvas").first.bounding_box()
    assert box is not None
    x, y = box["x"] + across * box["width"], box["y"] + down * box["height"]
    for _ in range(8):
        page.mouse.move(x, y)
        page.mouse.down()
        for step in range(6):
            page.mouse.move(x + 6 * step, y + 10 * (step % 2))
        page.mouse.up()
        page.wait_for_timeout(4000)
        if noted in page.locator("#painted").inner_text():
            return
    pytest.fail(f"not noted: {noted}")


def save(page: Page, name: str) -> None:
    PICTURES.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=PICTURES / f"{name}.png", full_page=True)


def test_an_example_is_completed_looked_at_and_downloaded(page: Page, tmp_path: Path) -> None:
    load_example(page)
    page.locator("#samples input").fill("2")
    complete(page)
    titles = [title.strip() for title in page.locator("#viewer figcaption").all_inner_texts()]
    assert [title.split()[0] for title in titles] == ["Visible", "Amodal", "Completed", "Uncertain"]
    assert all(page.locator("#viewer img").evaluate_all("pictures => pictures.map(p => p.naturalWidth > 300)"))
    painted = np.ptp(picture(page, 2).astype(int), axis=-1) > 25  # the board behind is gray
    assert 0.02 < painted.mean() < 0.4
    save(page, "completed")

    before = [source(page, pane) for pane in range(3)]
    page.locator("#viewer input[type=range]").fill("3")
    expect(page.locator("#viewer output")).to_have_text("frame 3 of 15")
    after = [source(page, pane) for pane in range(3)]
    assert all(path.endswith("/00003.jpg") for path in after)
    assert [path.rpartition("/")[0] for path in before] == [path.rpartition("/")[0] for path in after]
    page.get_by_role("button", name="Play").click()
    expect(page.locator("#viewer output")).not_to_have_text("frame 3 of 15")

    with page.expect_download() as everything:
        page.get_by_text("Download everything").click()
    everything.value.save_as(tmp_path / "results.zip")
    with zipfile.ZipFile(tmp_path / "results.zip") as archive:
        names = archive.namelist()
        assert sum(name.startswith("results/objects/1/completed/") for name in names) == 16
        summary = json.loads(archive.read("results/summary.json"))
    assert summary["model"] == "tiny"
    with page.expect_download() as single:
        page.locator("#files a", has_text="overlay.mp4").click()
    assert single.value.suggested_filename == "overlay.mp4"
    assert Path(single.value.path()).stat().st_size > 1000


def test_masks_are_painted(page: Page) -> None:
    load_example(page, "Leaf behind a ladder")
    paint(page, 0.6, 0.5, "Painted: 0. Still needed: 15.")
    page.locator("#use-painting").click()
    expect(page.get_by_text("frame 15 is not painted")).to_be_visible(timeout=MINUTE)
    number = page.locator("#paint-frame input[type=number]")
    number.fill("15")
    number.press("Enter")
    expect(page.locator("#painted")).to_contain_text("Frame 15 of 15", timeout=MINUTE)
    paint(page, 0.3, 0.5, "Painted: 0, 15.")
    page.locator("#use-painting").click()
    expect(page.locator("#status")).to_contain_text("14 of them filled in", timeout=MINUTE)
    save(page, "painted")
    complete(page)


def test_a_clip_and_masks_are_uploaded_and_mistakes_are_said(page: Page, tmp_path: Path) -> None:
    clip = encode(tmp_path / "clip.mp4", RGB)
    page.locator("#clip-upload input[type=file]").set_input_files(encode(tmp_path / "long.mp4", np.repeat(RGB, 5, 0)))
    expect(page.get_by_text("25 frames, this page takes at most 20")).to_be_visible(timeout=MINUTE)
    page.reload()
    expect(page.locator("#status")).to_contain_text("Load an example", timeout=MINUTE)
    page.locator("#clip-upload input[type=file]").set_input_files(clip)
    expect(page.locator("#status")).to_contain_text("5 frames of 160x96", timeout=MINUTE)
    page.get_by_role("tab", name="Click").click()
    expect(page.locator("#click-help")).to_contain_text("--segmenter")
    page.get_by_role("tab", name="Upload").click()
    masks = sorted(write_masks(tmp_path / "masks", MASK).iterdir())
    page.locator("#masks-upload input[type=file]").set_input_files(masks)
    expect(page.locator("#status")).to_contain_text("Ready", timeout=MINUTE)
    complete(page)


def test_stop_stops(page: Page) -> None:
    load_example(page)
    page.locator("#complete").click()
    page.wait_for_timeout(300)
    page.locator("#stop").click()
    expect(page.locator("#status")).to_contain_text("Stopped", timeout=MINUTE)
    assert page.locator("#files a").count() == 0
    complete(page)


def test_another_visitor_reads_nothing_and_a_closed_page_leaves_nothing(
    page: Page, browser: Browser, url: str, folder: Path
) -> None:
    load_example(page)
    own = f"{url}{source(page, 0)}"
    assert page.request.get(own).status == 200
    stranger = browser.new_context()
    assert stranger.request.get(own).status == 403
    stranger.close()
    page.close()
    for _ in range(100):
        files = [path for path in files_of_pages(folder)[0].rglob("*") if path.is_file()]
        left = [path for path in files if path.stat().st_size]  # Gradio leaves empty ones until it ends
        if not left:
            return
        time.sleep(0.2)  # the server notes it when the connection ends
    pytest.fail(f"left: {left[:3]}")


def test_a_visitor_logs_in_and_works(browser: Browser, tmp_path: Path) -> None:
    logins = tmp_path / "logins.txt"
    logins.write_text("ann:pass:word\n")
    logins.chmod(0o600)
    with served(tmp_path, "--auth-file", str(logins)) as address:
        context = browser.new_context(viewport={"width": 1400, "height": 1100})
        context.set_default_timeout(MINUTE)
        opened = context.new_page()
        opened.goto(address)
        opened.get_by_label("username").fill("ann")
        opened.get_by_label("password").fill("pass:word")
        opened.get_by_role("button", name="Login").click()
        expect(opened.locator("#status")).to_contain_text("Load an example", timeout=MINUTE)
        load_example(opened)
        assert all(opened.locator("#viewer img").evaluate_all("pictures => pictures.map(p => p.naturalWidth > 300)"))
        context.close()
