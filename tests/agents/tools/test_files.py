"""The file tools: what is in the folder of the run, and nothing else, whatever the name (S4)."""

import importlib
import os
import socket
import sys
import threading
import time
from pathlib import Path
from urllib.parse import quote

import pytest

from qianwen.agents.tool import CallContext
from qianwen.agents.tools.files import files, list_folder, read_inside
from qianwen.runtime.errors import ConfigError, ToolError

SECRET = "the secret of another folder"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """The folder of a run, with links to outside, beside a folder with a secret."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.txt").write_text(SECRET)
    (tmp_path / "secret.txt").write_text(SECRET)
    folder = tmp_path / "run"
    (folder / "sub" / "deep").mkdir(parents=True)
    (folder / "a.txt").write_text("one\ntwo\nthree\n")
    (folder / "sub" / "b.csv").write_text("name,score\n李,5\nAnn,7\n")
    (folder / "link").symlink_to(outside / "secret.txt")
    (folder / "relative").symlink_to("../secret.txt")
    (folder / "folder").symlink_to(outside)
    (folder / "sub" / "up").symlink_to("../..")
    (folder / "root").symlink_to("/")
    (folder / "loop").symlink_to("loop")
    (folder / "proc").symlink_to("/proc/self")
    (folder / "chain").symlink_to("link")
    (folder / "dangling").symlink_to("nothing")
    os.mkfifo(folder / "pipe")
    return folder


def call(folder: Path, name: str, **arguments: object) -> str:
    tool = {tool.name: tool for tool in files()}[name]
    return tool.run(arguments, CallContext("k", folder, 30.0)).text


# -- S4: names that lead elsewhere

UPS = ["../", "..\\", "./../", "sub/../../", "sub/../../run/../", "a.txt/../../", "//../", "..//", "../run/../", ".. /"]
ENCODINGS = [
    "%2e%2e%2f",
    "%2e%2e/",
    "..%2f",
    "%252e%252e%252f",
    "..%c0%af",
    "%c0%ae%c0%ae/",
    "..%5c",
    "．．/",
    "‥/",
    "..∕",
    "..⁄",
]
LINKS = [
    *("link", "relative", "folder/secret.txt", "sub/up/secret.txt", "root/etc/passwd", "loop"),
    *("proc/environ", "chain", "dangling", "pipe", "sub/up/outside/secret.txt", "folder", "sub", "sub/up"),
    *("proc/self/etc/passwd", "proc/cwd/x", "./link", "sub/../link", "folder/../secret.txt", "link/"),
    *("link/.", "a.txt/link"),
]
ABSOLUTE = [
    *("/etc/passwd", "//etc/passwd", "///etc/passwd", "/proc/self/environ", "/dev/zero", "/dev/stdin"),
    *("/dev/fd/0", "file:///etc/passwd", "~/.ssh/id_rsa", "~root/.bashrc", "$HOME/.bashrc", "${HOME}/x"),
    *("`id`", "$(id)", "C:\\Windows\\win.ini", "C:/Windows/win.ini", "c:secret.txt"),
    *("\\\\server\\share\\x", "//server/share/x", "\\\\?\\C:\\x", "\\etc\\passwd", "\\\\.\\PhysicalDrive0"),
]
DEVICES = [
    *("CON", "NUL", "PRN", "AUX", "COM1", "LPT1", "con.txt", "NUL.csv", "a.txt:stream", "a.txt::$DATA"),
    *("..:$DATA",),
]
BROKEN = [
    *("", ".", "..", "/", "//", "./", "...", "....//", "\x00", "a.txt\x00", "a.txt\x00.png"),
    *("../secret.txt\x00.txt", " ", "\n", "\t", "a.txt ", " a.txt", "a.txt.", "a.txt/x"),
    *("x" * 5000, "x/" * 3000 + "y", "../" * 3000 + "etc/passwd", "\ud800", "a\u202etxt.a", "*", "?.txt"),
    *("[a].txt", "-rf", "--help", "|id", ";id", "a.txt;id", "a.txt|id", "secret.txt", "A.TXT"),
    *("\uff41.txt", "\u200ba.txt"),
]
TARGETS = ["secret.txt", "outside/secret.txt", "run/../secret.txt", "../../../../../../../../etc/passwd"]
NAMES = list(
    dict.fromkeys(
        [up + target for up in UPS for target in TARGETS]
        + [code + target for code in ENCODINGS for target in TARGETS[:2]]
        + [code * 8 + "etc/passwd" for code in ENCODINGS]
        + [quote(up + "secret.txt", safe="") for up in UPS]
        + LINKS
        + ABSOLUTE
        + DEVICES
        + BROKEN
    )
)
OPENED: list[tuple[str, int]] = []
RECORDING = [False]


CODE = (sys.base_prefix, sys.prefix, str(Path(__file__).parents[3]), "__editable__")  # what an import reads


def record(event: str, arguments: tuple[object, ...]) -> None:
    if RECORDING[0] and event == "open" and not str(arguments[0]).startswith(CODE):
        OPENED.append((str(arguments[0]), int(str(arguments[2]))))


sys.addaudithook(record)  # for as long as the process lives; it records only where it is switched on


@pytest.fixture
def opened():
    """Every file that Python opens in the test, but for its own modules: name and flags."""
    OPENED.clear()
    RECORDING[0] = True
    yield OPENED
    RECORDING[0] = False


def test_there_are_at_least_as_many_hostile_names_as_promised():
    print(f"S4: {len(NAMES)} names")
    assert len(NAMES) >= 150


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_a_hostile_name_opens_nothing_outside(name: str, run: Path, opened):
    for tool, arguments in (("read_file", {"path": name}), ("search_files", {"text": "e", "path": name})):
        if tool == "search_files" and not name:
            continue  # without a name, all files are searched
        try:
            text = call(run, tool, **arguments)
        except ToolError as error:
            text = str(error)
        else:
            pytest.fail(f"{tool} read {name!r}: {text}")
        assert SECRET not in text
        assert "root:" not in text
    for path, flags in opened:
        # One part of a name at a time, and never through a link; only the folder of the run is opened as a whole.
        is_part = "/" not in path and path != ".." and flags & os.O_NOFOLLOW
        assert is_part or path == str(run)


def test_the_files_of_all_names_are_the_runs(run: Path, opened):
    listing = call(run, "list_files")
    assert listing == "a.txt (14 bytes)\nsub/b.csv (23 bytes)"
    assert SECRET not in call(run, "search_files", text="secret")


def test_the_record_of_opened_files_would_see_an_access_outside(run: Path, opened):
    (run.parent / "secret.txt").read_text()
    assert any(path.endswith("secret.txt") and "/" in path for path, _ in opened)


def test_a_folder_that_becomes_a_link_while_it_is_read_leads_nowhere(run: Path):
    """The program of a code interpreter could do this."""
    (run / "swap").mkdir()
    (run / "swap" / "secret.txt").write_text("harmless")
    going = True

    def swap() -> None:
        while going:
            time.sleep(0.0002)
            os.rename(run / "swap", run / "kept")
            os.symlink(run.parent / "outside", run / "swap")
            os.unlink(run / "swap")
            os.rename(run / "kept", run / "swap")

    thread = threading.Thread(target=swap)
    thread.start()
    seen = set()
    try:
        for _ in range(400):
            try:
                seen.add(read_inside(run, "swap/secret.txt"))
            except ToolError:
                seen.add(b"")
    finally:
        going = False
        thread.join()
    assert b"harmless" in seen
    assert SECRET.encode() not in seen


def test_pipes_and_sockets_do_not_hang(run: Path, monkeypatch):
    monkeypatch.chdir(run)  # the path of a socket must be short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
        for name in ("pipe", "socket"):
            with pytest.raises(ToolError, match="no file"):
                read_inside(run, name)


# -- ordinary files


def test_lines_are_returned_with_their_place(run: Path):
    assert call(run, "read_file", path="a.txt") == "a.txt, lines 1 to 3 of 3:\none\ntwo\nthree"
    assert call(run, "read_file", path="./sub//b.csv", first_line=2, last_line=2).endswith("2 to 2 of 3:\n李,5")
    assert call(run, "read_file", path="a.txt", first_line=-5, last_line=99).startswith("a.txt, lines 1 to 3")
    with pytest.raises(ToolError, match="has 3 lines"):
        call(run, "read_file", path="a.txt", first_line=4)


def test_long_files_are_returned_in_parts(run: Path):
    (run / "long.txt").write_text("".join(f"{number}\n" for number in range(1, 1001)))
    first = call(run, "read_file", path="long.txt").split("\n")
    assert (first[0], first[1], first[-1]) == ("long.txt, lines 1 to 400 of 1000:", "1", "400")
    assert call(run, "read_file", path="long.txt", first_line=900).split("\n")[-1] == "1000"
    (run / "wide.txt").write_text("x" * 10_000)
    assert len(call(run, "read_file", path="wide.txt")) < 2100


def test_a_missing_file_is_named_with_those_that_there_are(run: Path):
    with pytest.raises(ToolError, match=r"no file .b\.csv.*a\.txt, sub/b\.csv"):
        call(run, "read_file", path="b.csv")


def test_texts_are_found_in_all_files_or_one(run: Path):
    (run / "picture.png").write_bytes(b"\x89PNG\r\n\0\0two")
    assert call(run, "search_files", text="TWO") == "a.txt:2: two"
    assert call(run, "search_files", text="an") == "sub/b.csv:3: Ann,7"
    assert call(run, "search_files", text="李", path="sub/b.csv") == "sub/b.csv:2: 李,5"
    assert call(run, "search_files", text="(.*)+") == "No line contains this text."
    with pytest.raises(ToolError, match="neither text"):
        call(run, "search_files", text="two", path="picture.png")
    with pytest.raises(ToolError, match="empty"):
        call(run, "search_files", text="")


def test_many_hits_are_cut(run: Path):
    (run / "hits.txt").write_text("hit\n" * 500)
    lines = call(run, "search_files", text="hit").split("\n")
    assert len(lines) == 51
    assert "more" in lines[-1]


def test_names_with_line_breaks_stay_in_one_line(run: Path):
    (run / "x\ny.txt (1 bytes)").write_text("1")
    assert '"x\\ny.txt (1 bytes)" (1 bytes)' in call(run, "list_files").split("\n")


def test_lists_of_many_and_deep_files_end(run: Path, monkeypatch):
    monkeypatch.setattr(importlib.import_module("qianwen.agents.tools.files"), "MAX_FILES", 10)
    for number in range(30):
        (run / f"{number:02}").touch()
    assert "Only the first 10 files" in call(run, "list_files")
    deep = run / "deep"
    for _ in range(60):
        deep = deep / "d"
    deep.mkdir(parents=True)
    assert len(list_folder(run)) == 10


def test_a_file_beyond_the_limit_is_refused(run: Path):
    with (run / "sparse").open("wb") as file:
        file.truncate(10**12)
    with pytest.raises(ToolError, match="larger than 50 MB"):
        read_inside(run, "sparse")


def test_another_folder_can_be_read_instead(run: Path, tmp_path: Path):
    tools = {tool.name: tool for tool in files(folder=tmp_path / "outside")}
    assert tools["list_files"].run({}, CallContext("k", run, 1.0)).text == f"secret.txt ({len(SECRET)} bytes)"
    with pytest.raises(ConfigError, match="no folder"):
        files(folder=tmp_path / "missing")


def test_the_tools_read_and_what_they_read_is_not_trusted():
    assert [(tool.name, tool.effect, tool.is_trusted) for tool in files()] == [
        ("list_files", "reads", False),
        ("read_file", "reads", False),
        ("search_files", "reads", False),
    ]
