"""The page in a browser, driven as a visitor would: example, paint, upload, run, stop, look, download."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from contextlib import suppress
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
expect.set_options(timeout=MINUTE)  # a busy machine is not an error
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


def load_example(page: Page, title: str = "Person behind trees") -> None:
    page.get_by_role("button", name=title).click()
    expect(page.locator("#status")).to_contain_text("Ready", timeout=MINUTE)
    expect(page.locator("#painted")).to_contain_text("No frame is painted", timeout=MINUTE)


def complete(page: Page) -> None:
    page.locator("#complete").click()
    expect(page.locator("#stop")).to_be_enabled()  # else the message may be an earlier run's
    expect(page.locator("#status")).to_contain_text("Done", timeout=4 * MINUTE)


def shown(page: Page, view: str) -> np.ndarray:
    """What the viewer shows, uint8 ``[H, W, 3]``, once it shows this view."""
    expect(page.locator("#viewer canvas")).to_have_attribute("data-shown", re.compile(rf"^{view} \d"), timeout=MINUTE)
    url = page.locator("#viewer canvas").evaluate("canvas => canvas.toDataURL()")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))).convert("RGB"))


def choose(page: Page, view: str) -> np.ndarray:
    page.locator("#viewer").get_by_role("radio", name=view).click()
    return shown(page, view.lower())


def visible_masks(page: Page) -> str:
    """Folder of the masks in the viewer; another one for each change of the masks."""
    scene = json.loads(str(page.locator("#viewer [data-scene]").get_attribute("data-scene")))
    return str(scene["objects"][0]["visible"])


def brush(page: Page, across: float, down: float) -> None:
    """Paint one stroke on the drawing board, at a share of its size."""
    canvas = page.locator("#easel canvas.paint")
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    assert box is not None
    x, y = box["x"] + across * box["width"], box["y"] + down * box["height"]
    page.mouse.move(x, y)
    page.mouse.down()
    for step in range(6):
        page.mouse.move(x + 6 * step, y + 10 * (step % 2))
    page.mouse.up()


def error_badges(page: Page) -> int:
    """Errors that Gradio draws over components."""
    return page.locator(".wrap .error, .toast-body.error").count()


def save(page: Page, name: str) -> None:
    PICTURES.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=PICTURES / f"{name}.png", full_page=True)


def test_an_example_is_completed_looked_at_and_downloaded(page: Page, tmp_path: Path) -> None:
    expect(page.locator("#complete")).to_be_disabled()
    expect(page.locator("#stop")).to_be_disabled()
    page.locator("#advanced").get_by_role("button", name="Advanced").click()  # Gradio fills its fields while it opens
    load_example(page)
    expect(page.locator("#complete")).to_be_enabled()
    page.locator("#samples input").fill("2")
    expect(page.locator("#samples input")).to_have_value("2")
    page.locator("#complete").click()
    expect(page.locator("#stop")).to_be_enabled()
    expect(page.locator("#complete")).to_be_disabled()
    expect(page.locator("#status progress")).to_have_count(1)
    expect(page.locator("#status")).to_contain_text(re.compile(r"about \d+ s left"), timeout=MINUTE)
    expect(page.locator("#status")).to_contain_text("Done", timeout=4 * MINUTE)
    expect(page.locator("#status progress")).to_have_count(0)
    expect(page.locator("#stop")).to_be_disabled()
    assert [name.strip() for name in page.locator("#viewer [data-view]").all_inner_texts()] == [
        *("Frame", "Visible", "Amodal", "Completed", "Overlay", "Uncertain")
    ]
    painted = np.ptp(shown(page, "completed").astype(int), axis=-1) > 25  # the board behind is gray
    assert 0.02 < painted.mean() < 0.6
    save(page, "completed")

    frame = choose(page, "Frame")
    for view in ("Visible", "Amodal", "Overlay", "Uncertain"):
        assert (choose(page, view) != frame).any(), view
    choose(page, "Completed")
    page.locator("#viewer .color").fill("#ff00ff")
    expect(page.locator("#viewer .behind")).to_have_value("color")
    page.wait_for_timeout(500)
    over_color = shown(page, "completed")
    assert (over_color == (255, 0, 255)).all(axis=-1).mean() > 0.3
    page.locator("#viewer .compare").check()
    page.wait_for_timeout(500)
    half = shown(page, "completed")
    middle = half.shape[1] // 2
    np.testing.assert_array_equal(half[:, middle + 2 :], over_color[:, middle + 2 :])
    np.testing.assert_array_equal(half[:, : middle - 2], frame[:, : middle - 2])
    page.get_by_role("button", name="zoom in").click()
    assert "scale(1.25)" in str(page.locator("#viewer canvas").get_attribute("style"))
    page.locator("#viewer .scrub").fill("3")
    expect(page.locator("#viewer output")).to_have_text("frame 3 of 15")
    page.get_by_role("button", name="Play").click()
    expect(page.locator("#viewer output")).not_to_have_text("frame 3 of 15")

    links = page.locator("#files td a").all_inner_texts()
    assert links[0] == "ProRes 4444 (MOV)"
    assert {"WebM with transparency", "PNG pictures (zip)", "Masks as COCO (JSON)"} <= set(links)
    with page.expect_download() as everything:
        page.get_by_text("Everything (zip)").click()
    everything.value.save_as(tmp_path / "results.zip")
    with zipfile.ZipFile(tmp_path / "results.zip") as archive:
        names = archive.namelist()
        assert sum(name.startswith("results/objects/1/completed/") for name in names) == 16
        summary = json.loads(archive.read("results/summary.json"))
    assert summary["model"] == "tiny"
    with page.expect_download() as single:
        page.locator("#files a", has_text="ProRes").first.click()
    assert single.value.suggested_filename == "completed.mov"
    assert Path(single.value.path()).stat().st_size > 1000


def test_a_stroke_counts_even_if_the_button_is_pressed_at_once(page: Page) -> None:
    load_example(page, "Kettle behind a bottle")
    given = shown(page, "visible")
    brush(page, 0.6, 0.5)
    complete(page)  # at once: the stroke replaces the masks of the example
    assert (choose(page, "Visible") != given).any()
    visible = visible_masks(page)
    complete(page)  # again: the same masks, not made once more
    assert visible_masks(page) == visible
    page.locator("#easel .clear-all").click()
    brush(page, 0.6, 0.4)
    page.locator("#use-painting").click()
    expect(page.locator("#status progress[value]")).to_have_count(1)
    expect(page.locator("#status")).to_contain_text("15 of them found from painted ones", timeout=MINUTE)
    assert visible_masks(page) != visible
    assert error_badges(page) == 0
    page.locator("#easel .at").fill("15")
    page.locator("#easel .onion").check()
    expect(page.locator("#easel canvas.skin")).to_be_visible()
    expect(page.locator("#easel .number")).to_have_text("frame 15 of 15")
    brush(page, 0.3, 0.5)
    page.locator("#use-painting").click()
    expect(page.locator("#status")).to_contain_text("14 of them filled in", timeout=MINUTE)
    expect(page.locator("#painted")).to_contain_text("Painted: frames 0, 15.")
    save(page, "painted")
    complete(page)


def test_loaded_masks_are_paint_and_the_frames_move_together(page: Page) -> None:
    load_example(page)
    board = page.locator("#easel canvas.paint")
    expect(board).to_have_attribute("data-masks", re.compile(" 0$"))
    pixels = "canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data"
    assert board.evaluate(f"canvas => {pixels}.filter((value, index) => index % 4 === 3 && value).length") > 300
    page.locator("#viewer .scrub").fill("5")
    expect(page.locator("#easel .number")).to_have_text("frame 5 of 15")
    page.locator("#easel .at").fill("3")
    expect(page.locator("#viewer output")).to_have_text("frame 3 of 15")
    page.get_by_role("tab", name="Click").click()
    expect(page.locator("#click-frame input[type=range]")).to_be_visible()
    page.locator("#viewer .scrub").fill("4")
    expect(page.locator("#click-frame input[type=range]")).to_have_value("4")
    page.get_by_role("tab", name="Paint").click()
    page.locator("#easel .at").fill("3")
    expect(board).to_have_attribute("data-masks", re.compile(" 3$"))
    brush(page, 0.05, 0.05)
    page.locator("#use-painting").click()
    expect(page.locator("#status")).to_contain_text("frame 3 corrected, the others as they were", timeout=MINUTE)
    expect(page.locator("#viewer output")).to_have_text("frame 3 of 15")
    page.get_by_role("tab", name="Click").click()
    page.locator("#click-frame input[type=range]").fill("7")
    expect(page.locator("#viewer output")).to_have_text("frame 7 of 15")


def test_paint_is_semi_transparent_and_is_taken_back(page: Page) -> None:
    load_example(page)
    assert 0 < float(page.locator("#easel canvas.paint").evaluate("canvas => getComputedStyle(canvas).opacity")) < 1
    brush(page, 0.5, 0.5)
    expect(page.locator("#painted")).to_contain_text("Painted: frame 0. Press")
    page.locator("#easel .undo").click()
    expect(page.locator("#painted")).to_contain_text("No frame is painted. The board shows the masks")
    page.locator("#easel .nothing").click()
    expect(page.locator("#painted")).to_contain_text("Painted: frame 0.")
    page.locator("#easel .clear-all").click()
    expect(page.locator("#painted")).to_have_text("No frame is painted.")


def test_a_refused_upload_leaves_the_box(page: Page, tmp_path: Path) -> None:
    clip = encode(tmp_path / "clip.mp4", RGB)
    box = page.locator("#clip-upload")
    expect(box.locator("input[type=file]")).to_have_attribute("accept", re.compile(r"\.mp4.*\.zip"))
    box.locator("input[type=file]").set_input_files(__file__)
    expect(page.locator("#status")).to_contain_text("such as .mp4, .zip, .png; got test_browser.py", timeout=MINUTE)
    expect(box).not_to_contain_text("test_browser.py")
    box.locator("input[type=file]").set_input_files(encode(tmp_path / "long.mp4", np.repeat(RGB, 5, 0)))
    expect(page.locator("#status")).to_contain_text("25 frames, this page takes at most 20", timeout=MINUTE)
    expect(box).not_to_contain_text("long.mp4")
    assert error_badges(page) == 0
    expect(page.locator("#complete")).to_be_disabled()
    box.locator("input[type=file]").set_input_files(clip)  # without loading the page again
    expect(page.locator("#status")).to_contain_text("5 frames of 160x96", timeout=MINUTE)
    expect(page.locator("#complete")).to_be_disabled()
    page.get_by_role("tab", name="Click").click()
    expect(page.locator("#click-help")).to_contain_text("Click on the object")
    page.get_by_role("tab", name="Upload").click()
    masks = page.locator("#masks-upload")
    wrong = sorted(write_masks(tmp_path / "wrong", MASK[:3]).iterdir())
    masks.locator("input[type=file]").set_input_files(wrong)
    expect(page.locator("#status [role=alert]")).to_contain_text("masks", timeout=MINUTE)
    expect(masks).not_to_contain_text("00000")
    masks.locator("input[type=file]").set_input_files(sorted(write_masks(tmp_path / "masks", MASK).iterdir()))
    expect(page.locator("#status")).to_contain_text("Ready", timeout=MINUTE)
    complete(page)


def test_a_second_upload_takes_the_place_of_the_first(page: Page, tmp_path: Path) -> None:
    box, field = page.locator("#clip-upload"), page.locator("#clip-upload input[type=file]")
    field.set_input_files(encode(tmp_path / "first.mp4", RGB))
    expect(page.locator("#status")).to_contain_text("5 frames of 160x96", timeout=MINUTE)
    expect(box.locator("[aria-label='common.upload']")).to_have_count(0)
    for name, count in (("second", 4), ("third", 3)):  # through the input beside the X
        field.set_input_files(encode(tmp_path / f"{name}.mp4", RGB[:count]))
        expect(page.locator("#status")).to_contain_text(f"{count} frames of 160x96", timeout=MINUTE)
        expect(box).to_contain_text(name)
    expect(box).not_to_contain_text("second")
    field.set_input_files(__file__)
    expect(page.locator("#status")).to_contain_text("got test_browser.py", timeout=MINUTE)
    expect(box).to_contain_text("third")  # what is loaded
    field.set_input_files(encode(tmp_path / "fourth.mp4", RGB))
    expect(page.locator("#status")).to_contain_text("5 frames of 160x96", timeout=MINUTE)


def test_settings_that_are_looked_at_change_nothing(page: Page) -> None:
    load_example(page)
    page.locator("#advanced").get_by_role("button", name="Advanced").click()
    expect(page.locator("#samples input")).to_be_visible()
    complete(page)


def test_quick_clicks_all_count(page: Page, tmp_path: Path) -> None:
    clip = encode(tmp_path / "clip.mp4", RGB)
    page.locator("#clip-upload").locator("input[type=file]").set_input_files(clip)
    expect(page.locator("#status")).to_contain_text("5 frames of 160x96", timeout=MINUTE)
    page.get_by_role("tab", name="Click").click()
    expect(page.locator("#built-in")).to_contain_text("--segmenter facebook/sam2.1-hiera-tiny")
    picture = page.locator("#click-picture img")
    expect(picture).to_be_visible(timeout=MINUTE)
    picture.scroll_into_view_if_needed()
    box = picture.bounding_box()
    assert box is not None
    for place in range(4):
        page.mouse.click(box["x"] + box["width"] / 2 + 8 * place, box["y"] + box["height"] / 2)
    expect(page.locator("#clicked")).to_contain_text("4 on object 1", timeout=MINUTE)
    before = picture.get_attribute("src")
    page.locator("#use-clicks").click()
    expect(page.locator("#status")).to_contain_text("Ready", timeout=MINUTE)
    expect(picture).not_to_have_attribute("src", str(before))
    save(page, "clicked")


def test_a_second_click_starts_no_second_run(page: Page) -> None:
    load_example(page)
    page.locator("#complete").evaluate("button => { button.click(); button.click(); }")
    page.locator("#complete").evaluate("button => { button.disabled = false; button.click(); }")
    expect(page.locator("#stop")).to_be_enabled()
    expect(page.locator("#status")).to_contain_text("Done", timeout=4 * MINUTE)
    for _ in range(8):  # in which a second run would begin and show its bar
        page.wait_for_timeout(250)
        assert "Done" in page.locator("#status").inner_text()
    expect(page.locator("#complete")).to_be_enabled()
    expect(page.locator("#stop")).to_be_disabled()
    assert error_badges(page) == 0


@pytest.mark.parametrize(("width", "height"), [(1440, 900), (390, 844)])
def test_the_page_fits_and_the_message_stays_in_sight(page: Page, width: int, height: int) -> None:
    page.set_viewport_size({"width": width, "height": height})
    load_example(page)
    complete(page)
    save(page, f"page-{width}x{height}")
    page.get_by_role("link", name="Show the result").click()
    expect(page.locator("#viewer canvas")).to_be_in_viewport()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.locator("#files td a").last.scroll_into_view_if_needed()
    expect(page.locator("#status")).to_be_in_viewport()
    canvas = page.locator("#viewer canvas").bounding_box()
    assert canvas is not None
    assert canvas["width"] > (700 if width == 1440 else 280)


def test_stop_stops(page: Page) -> None:
    load_example(page)
    page.locator("#complete").click()
    page.locator("#stop").click()
    expect(page.locator("#status")).to_contain_text("Stopped. Nothing was completed.", timeout=MINUTE)
    assert page.locator("#files a").count() == 0
    complete(page)


def test_another_visitor_reads_nothing_and_a_closed_page_leaves_nothing(
    page: Page, browser: Browser, url: str, folder: Path
) -> None:
    load_example(page)
    shown(page, "visible")
    scene = json.loads(str(page.locator("#viewer [data-scene]").get_attribute("data-scene")))
    own = f"{url}{scene['objects'][0]['visible']}00000.png"
    assert page.request.get(own).status == 200
    stranger = browser.new_context()
    assert stranger.request.get(own).status == 403
    stranger.close()
    page.close()
    for _ in range(900):
        left = []
        with suppress(FileNotFoundError):  # while they are removed
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
        assert shown(opened, "visible").shape == (192, 384, 3)
        context.close()
