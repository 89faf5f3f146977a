"""The pictures of the pages in docs/images/: a real server with MODEL and the runs of this folder, in a real Chromium.

    python tools/screenshots.py MODEL

Needs `pip install -e '.[dev,ui]'`, a Chromium, a font with Chinese characters, and finished runs (`make demo`). The
questions are asked at temperature 0. Pictures have a palette of 128 colours, which keeps each under 150 kB.
"""

import io
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

IMAGES = Path(__file__).resolve().parents[1] / "docs" / "images"
DESK = {"viewport": {"width": 1280, "height": 800}}
PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}
DARK = {"color_scheme": "dark"}
MAX_BYTES = 150_000
COLOURS = 128
PATIENCE_SECONDS = 900  # the machine may have other work


@contextmanager
def served(model: str, folder: Path, language: str) -> Iterator[str]:
    """The address of a server that speaks `language`."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    command = [Path(sys.executable).with_name("qianwen"), "serve", model, "--port", str(port)]
    environment = {**os.environ, "QIANWEN_LANG": language}
    server = subprocess.Popen([*command, "--store", folder / f"{language}.sqlite"], env=environment)
    try:
        yield f"http://127.0.0.1:{wait_until_ready(server, port)}"
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait()


def wait_until_ready(server: subprocess.Popen, port: int) -> int:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/ready").close()
            return port
        except OSError:
            time.sleep(0.5)
    raise SystemExit("the server did not start")


def opened(browser: Browser, url: str, selector: str, **options: object) -> Page:
    page = browser.new_context(**options).new_page()
    page.set_default_timeout(PATIENCE_SECONDS * 1e3)
    page.goto(url)
    page.wait_for_selector(selector)
    return page


def ask(page: Page, *questions: str) -> None:
    if "open" not in (page.locator("#right").get_attribute("class") or "").split():
        page.locator("#right .toggle-button").click()
    page.locator("#temperature input[type=number]").fill("0")
    page.locator("#temperature input[type=number]").blur()
    page.locator("#right .toggle-button").click()
    for question in questions:
        page.locator("#question textarea").fill(question)
        page.locator("#question textarea").press("Enter")
        page.wait_for_selector("#question .stop-button")
        page.wait_for_selector("#question .submit-button")


def keep(page: Page, name: str) -> None:
    """Write what is on the page to docs/images/, small."""
    page.wait_for_timeout(1000)  # for what fades and slides
    picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    IMAGES.mkdir(exist_ok=True)
    path = IMAGES / f"{name}.png"
    picture.quantize(COLOURS, dither=Image.Dither.NONE).save(path, optimize=True)
    if path.stat().st_size > MAX_BYTES:
        raise SystemExit(f"{path} has {path.stat().st_size} bytes, more than {MAX_BYTES}")
    print(path, path.stat().st_size)
    page.context.close()


def main(model: str) -> None:
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        with served(model, Path(folder), "en") as url:
            page = opened(browser, url, "#meter label", **DESK)
            ask(page, "Explain recursion in two sentences.")
            page.locator("#new").click()
            ask(page, "Write a Python function that reverses a string, and say in one sentence how it works.")
            keep(page, "chat")
            page = opened(browser, f"{url}/runs", "#run-view figure", **DESK, **DARK)
            page.locator("#history label", has_text="pretrain").first.click()
            keep(page, "runs")
        with served(model, Path(folder), "zh") as url:
            page = opened(browser, url, "#meter label", **PHONE)
            ask(page, "用两句话解释什么是递归。")
            keep(page, "chat-phone-zh")
        browser.close()


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    main(sys.argv[1])
