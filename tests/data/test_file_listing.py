"""Files here and in a bucket, which a server of our own plays."""

import http.server
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

pytest.importorskip("daft", reason="Daft comes with the extra `data`")
from qianwen.data import worker_pool
from qianwen.data.curate.input_parts import plan, read_part
from qianwen.data.documents.document import Rejected
from qianwen.data.documents.readers import read_documents
from qianwen.data.file_listing import is_remote, list_files, local_copy
from qianwen.runtime.errors import DataError

OBJECTS = {
    "web/a.txt": b"first",
    "web/deep/b.txt": b"second",
    "web/.hidden": b"no",
    "other/c.txt": b"third",
    "other/a.txt": b"namesake",
}


def test_a_folder_is_listed_by_name_without_what_is_hidden(tmp_path: Path) -> None:
    for name in ("b.txt", "a/c.txt", ".git/config"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("four")
    assert [(found.name, found.size) for found in list_files(str(tmp_path))] == [("a/c.txt", 4), ("b.txt", 4)]
    assert [found.name for found in list_files(str(tmp_path / "b.txt"))] == ["b.txt"]


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A server that speaks as much of S3 as listing and reading need."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            asked = urlsplit(self.path)
            key = asked.path.removeprefix("/bucket").strip("/")
            if "list-type" in asked.query:
                self.answer(200, _listed(parse_qs(asked.query)))
            elif key in OBJECTS:
                self.answer(200, OBJECTS[key])
            else:
                self.answer(404, b"<Error><Code>NoSuchKey</Code></Error>")

        def answer(self, status: int, body: bytes) -> None:
            if asked := self.headers.get("Range"):
                low, _, high = asked.removeprefix("bytes=").partition("-")
                status, total = 206, len(body)
                body = body[int(low) : int(high or total) + 1]
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            if status == 206:
                self.send_header("Content-Range", f"bytes {low}-{int(low) + len(body) - 1}/{total}")
            self.send_header("ETag", '"x"')
            self.send_header("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT")
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        yield "s3://bucket"
        server.shutdown()


def _listed(query: dict[str, list[str]]) -> bytes:
    prefix, delimiter = query.get("prefix", [""])[0], query.get("delimiter", [""])[0]
    keys, folders = [], set()
    for key in OBJECTS:
        if key.startswith(prefix):
            head, slash, _ = key.removeprefix(prefix).partition("/")
            (folders.add(prefix + head + "/") if delimiter and slash else keys.append(key))
    contents = "".join(
        f"<Contents><Key>{key}</Key><Size>{len(OBJECTS[key])}</Size>"
        "<LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents>"
        for key in keys
    )
    common = "".join(f"<CommonPrefixes><Prefix>{folder}</Prefix></CommonPrefixes>" for folder in sorted(folders))
    return (
        '<?xml version="1.0"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
        f"<IsTruncated>false</IsTruncated>{contents}{common}</ListBucketResult>"
    ).encode()


def test_a_bucket_is_listed_and_read(bucket: str, tmp_path: Path) -> None:
    found = list_files(f"{bucket}/web")
    assert [(one.name, one.size) for one in found] == [("a.txt", 5), ("deep/b.txt", 6)]
    with local_copy(found[1].path, tmp_path) as here:
        assert here.read_bytes() == b"second"
    assert not list(tmp_path.iterdir())


def test_a_copy_is_deleted_though_its_reader_failed_and_the_error_stays_its_own(bucket: str, tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), local_copy(f"{bucket}/web/a.txt", tmp_path) as here:
        assert here.parent == tmp_path and here.name.endswith("-a.txt")
        raise ZeroDivisionError
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_gone_is_an_error_with_its_path_and_leaves_no_copy(bucket: str, tmp_path: Path) -> None:
    expected = pytest.raises((DataError, FileNotFoundError), match="s3://bucket/web/gone.txt")
    with expected, local_copy(f"{bucket}/web/gone.txt", tmp_path):
        pass
    assert not list(tmp_path.iterdir())


def test_a_local_file_is_not_copied(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("here")
    with local_copy(str(tmp_path / "a.txt"), tmp_path / "scratch") as here:
        assert here == tmp_path / "a.txt"
    assert here.exists() and not (tmp_path / "scratch").exists()


def test_workers_copy_files_of_one_name_side_by_side(bucket: str, tmp_path: Path) -> None:
    """Each process has names of its own; with one name the worker that ends first would delete the other's copy."""
    tasks = [Copying(f"{bucket}/{path}", str(tmp_path)) for path in ("web/a.txt", "other/a.txt")]
    assert sorted(worker_pool.each(Copying.contents, tasks, workers=2)) == [b"first", b"namesake"]
    assert not [path for path in tmp_path.iterdir() if path.suffix == ".txt"]


@dataclass(frozen=True)
class Copying:
    """A task of a worker: hold a copy until another worker has one of the same name."""

    path: str
    folder: str

    def contents(self) -> bytes:
        with local_copy(self.path, Path(self.folder)) as here:
            self._wait_for_both(".txt")
            content = here.read_bytes()
            (Path(self.folder) / f"{os.getpid()}.read").touch()
            self._wait_for_both(".read")
            return content

    def _wait_for_both(self, suffix: str) -> None:
        for _ in range(100):
            if len(list(Path(self.folder).glob(f"*{suffix}"))) == 2:
                return
            time.sleep(0.05)


def test_a_bucket_that_is_not_there_is_one_clear_line(bucket: str) -> None:
    with pytest.raises(DataError, match="s3://bucket/none"):
        list_files(f"{bucket}/none")


def test_a_bucket_is_read_as_a_folder_is(bucket: str, tmp_path: Path) -> None:
    found = [one for part in plan([f"{bucket}/web"]) for one in read_part(part, tmp_path / "scratch", ())]
    assert {one["source"]: one["text"] for one in found} == {"a.txt": "first", "deep/b.txt": "second"}
    assert not list((tmp_path / "scratch").iterdir()), "copies are gone when they are read"
    read = list(read_documents(f"{bucket}/web"))
    assert read == found and not any(isinstance(one, Rejected) for one in read), "training reads it as well"


@pytest.mark.parametrize(
    ("path", "remote"), [("s3://a/b", True), ("hf://datasets/a", True), ("https://a.org/b", True), ("a/b", False)]
)
def test_a_path_says_whether_it_is_remote(path: str, remote: bool) -> None:
    assert is_remote(path) == remote
