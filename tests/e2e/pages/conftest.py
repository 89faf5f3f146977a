"""A real server with very small real models, and visitors who use its pages in a real Chromium.

Needs the `[ui]` extra, playwright and a Chromium; whatever is missing is the reason of a skip. axe-core, which checks
pages for what would keep somebody from using them, comes from npm on first use (or from $QIANWEN_AXE).
$QIANWEN_PATIENCE multiplies all waiting, for a machine with other work.
"""

import contextlib
import functools
import os
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from qianwen.runtime.errors import DataError
from qianwen.runtime.npm import npm_archive

pytest.importorskip("gradio", reason="the pages need the [ui] extra")
playwright = pytest.importorskip("playwright.sync_api", reason="the journeys need playwright")
expect = playwright.expect
PATIENCE = float(os.environ.get("QIANWEN_PATIENCE", 1))
SECONDS = 20 * PATIENCE  # for anything to happen on a page
expect.set_options(timeout=SECONDS * 1e3)

AXE = ("axe-core@4.14.1", "e6b0ce02b84d892e2e33e403485e7f3d6c29e2be6df65daf44d89ba564139745")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Every test of this folder is slow, and Playwright leaves sockets for the collector to close."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.e2e)
            item.add_marker(pytest.mark.timeout(180 * PATIENCE))
            for warning in ("ResourceWarning", "pytest.PytestUnraisableExceptionWarning"):
                item.add_marker(pytest.mark.filterwarnings(f"ignore::{warning}"))


class Site:
    """`server.py` as a process."""

    def __init__(self, folder: Path, language: str, *options: str) -> None:
        self.folder, self.language, self.options = folder, language, options
        self.runs = folder / "runs"
        self.start()

    def start(self) -> None:
        """Start it, or restart it at the same address; returns when it answers."""
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "QIANWEN_LANG": self.language}
        environment["QIANWEN_RUNS"] = str(self.runs)
        command = [sys.executable, str(Path(__file__).with_name("server.py")), str(self.folder), *self.options]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, env=environment, text=True)
        assert self.process.stdout is not None
        self.keys: list[str] = []
        for line in self.process.stdout:
            kind, *rest = line.split()
            if kind == "port":
                port = int(rest[0])
            elif kind == "keys":
                self.keys = rest
            elif kind == "ready":
                break
        else:
            raise AssertionError((self.folder / "log").read_text())
        self.options = (*self.options, "--port", str(port))
        self.url = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + 3 * SECONDS
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                return
            time.sleep(0.05)
        raise AssertionError((self.folder / "log").read_text())

    def wait_until_idle(self) -> None:
        """Wait until no answer is being generated."""
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline:
            with urllib.request.urlopen(f"{self.url}/metrics") as reply:
                if b"\nqianwen_requests_in_flight 0\n" in reply.read():
                    return
            time.sleep(0.02)
        raise AssertionError("an answer goes on")

    def kill(self) -> None:
        """End it as a crash would."""
        self.process.kill()
        self._wait()

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        assert self._wait() == 0

    def _wait(self) -> int:
        assert self.process.stdout is not None
        self.process.stdout.close()
        return self.process.wait(timeout=3 * SECONDS)


@functools.cache
def axe() -> str:
    """The script of axe-core; a skip with the reason where it cannot be had."""
    if path := os.environ.get("QIANWEN_AXE"):
        return Path(path).read_text(encoding="utf-8")
    try:
        archive = npm_archive(*AXE)
    except DataError as error:
        pytest.skip(str(error))
    with tarfile.open(archive) as opened:
        script = opened.extractfile("package/axe.min.js")
        assert script is not None
        return script.read().decode()


class Visitor:
    """One browser window with the chat page, and the actions of a user."""

    def __init__(self, page) -> None:
        self.page = page
        self.questions = page.locator("#chat [data-testid=user]")
        self.answers = page.locator("#chat [data-testid=bot]")
        self.box = page.locator("#question textarea")
        self.history = page.locator("#history label")
        self.title = page.locator("#title input, #title textarea").first
        self.meter = page.locator("#meter label")
        self.stop_button = page.locator("#question .stop-button")
        self.greeting = page.get_by_text("What would you like to know?")

    def settings(self, **values: str) -> None:
        """Open the panel and set fields; sliders also have a number field."""
        if "open" not in (self.page.locator("#right").get_attribute("class") or "").split():
            self.page.locator("#right .toggle-button").click()
        for name, value in values.items():
            field = self.page.locator(f"#{name} input[type=number], #{name} textarea").first
            field.fill(value)
            field.blur()

    def send(self, text: str) -> None:
        count = self.questions.count()
        self.box.fill(text)
        self.box.press("Enter")
        expect(self.box).to_have_value("")
        expect(self.questions).to_have_count(count + 1)

    def answer(self, index: int = -1) -> str:
        """The text of an answer, after generation has ended, without the note below it."""
        expect(self.page.locator("#question .submit-button")).to_be_visible(timeout=3e3 * SECONDS)
        text = self.answers.nth(index).inner_text().strip()
        return text.removesuffix(self.note(index)).strip()

    def note(self, index: int = -1) -> str:
        """What the page says about the end of an answer."""
        notes = self.answers.nth(index).locator("small")
        return notes.inner_text().strip() if notes.count() else ""

    def choose(self, menu: str, name: str) -> None:
        """Choose an entry of a menu."""
        self.page.locator(f"#{menu} input").click()
        self.page.get_by_role("option", name=name).click()

    def press_option(self, label: str) -> None:
        """A button below the last answer."""
        self.page.locator("#chat .option", has_text=label).click()

    def ask(self, text: str = "hello", **values: str) -> str:
        self.settings(**{"max_tokens": "12", **values})
        self.send(text)
        return self.answer()

    def findings(self) -> list[str]:
        """The serious and critical problems that axe finds."""
        self.page.evaluate(axe())
        found = self.page.evaluate("axe.run()")["violations"]
        return [f"{v['id']}: {v['nodes'][0]['html']}" for v in found if v["impact"] in ("serious", "critical")]


@pytest.fixture(scope="session")
def open_site(tmp_path_factory) -> Iterator[Callable[..., Site]]:
    """`open_site("en", …)`: a server in this language; all servers end with the session."""
    opened: list[Site] = []

    def start(language: str, *options: str) -> Site:
        opened.append(Site(tmp_path_factory.mktemp("site"), language, *options))
        return opened[-1]

    yield start
    for site in opened:
        if site.process.poll() is None:
            site.stop()


@pytest.fixture(scope="session")
def site(open_site) -> Site:
    """A server in English that needs no key."""
    return open_site("en")


@pytest.fixture(scope="session")
def two_models_site(open_site) -> Site:
    """A server of two models, `letters` and `digits`."""
    return open_site("en", "--digits")


@pytest.fixture(scope="session")
def chinese_site(open_site) -> Site:
    return open_site("zh")


@pytest.fixture(scope="session")
def weak_site(open_site) -> Site:
    """A server that answers one question at a time. A test may stop it if it restarts it."""
    return open_site("en", "--max-requests", "1")


@pytest.fixture(scope="session")
def locked_site(open_site) -> Site:
    """A server that needs a key; it has two keys."""
    return open_site("en", "--locked")


@pytest.fixture(scope="session")
def browser():
    if CHROMIUM is None:
        pytest.skip("there is no Chromium")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def visit(browser) -> Iterator[Callable[..., Visitor]]:
    """`visit(url)`: a new user. At the end, checks that no other host was contacted and no injected script ran."""
    contexts, foreign, hits = [], [], []

    def open_page(url: str, selector: str = "#meter label", **options) -> Visitor:
        context = browser.new_context(**{"viewport": {"width": 1200, "height": 800}, **options})
        contexts.append(context)
        context.expose_function("hit", lambda where: hits.append(where))
        page = context.new_page()
        page.set_default_timeout(SECONDS * 1e3)
        own = (url.partition("?")[0].removesuffix("/runs").removesuffix("/tune"), "data:", "blob:")
        page.on("request", lambda request: None if request.url.startswith(own) else foreign.append(request.url))
        page.on("dialog", lambda dialog: (hits.append(dialog.message), dialog.dismiss()))
        page.goto(url)
        page.wait_for_selector(selector)
        return Visitor(page)

    yield open_page
    for context in contexts:
        context.close()
    assert not foreign and not hits
