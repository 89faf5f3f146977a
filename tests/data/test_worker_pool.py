"""Work over processes, joins, and files that lie elsewhere; all through Daft itself."""

import gc
import http.server
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import psutil
import pyarrow as pa
import pytest

pytest.importorskip("daft", reason="Daft comes with the extra `data`")
from qianwen.data import worker_pool
from qianwen.data.curate.input_parts import plan, read_part
from qianwen.data.documents.readers import cut
from qianwen.runtime.errors import DataError

# Daft leaves the pipes of its workers to the garbage collector, which Python calls unclean.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
OBJECTS = {"web/a.txt": b"first", "web/deep/b.txt": b"second", "web/.hidden": b"no", "other/c.txt": b"third"}


def test_results_come_from_other_processes_and_all_of_them() -> None:
    tasks = [f"{number}\n\n{'x' * 20_000}" for number in range(5)]
    found = list(worker_pool.each(cut, tasks, workers=2))
    assert sorted(found) == sorted(cut(task) for task in tasks)
    gc.collect()


def test_workers_stay_for_the_next_tasks_unless_nobody_waited_for_the_last() -> None:
    assert set(worker_pool.each(os.path.isdir, [".", "no such"], workers=2)) == {True, False}
    kept = {worker.process.pid for worker in worker_pool._idle}
    assert sorted(worker_pool.each(os.path.basename, ["a/b", "a/c"], workers=2)) == ["b", "c"]
    assert {worker.process.pid for worker in worker_pool._idle} == kept and len(kept) == 2
    answers = worker_pool.each(os.path.basename, ["a/b"] * 9, workers=2)
    next(answers)
    answers.close()
    assert not worker_pool._idle and not any(map(psutil.pid_exists, kept))


def test_workers_know_the_folder_and_the_environment_of_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(worker_pool.each(os.path.abspath, [".", "./"], workers=2)) == {os.getcwd()}
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("QIANWEN_TOLD", "now")
    assert set(worker_pool.each(os.path.abspath, [".", "./"], workers=2)) == {str(tmp_path)}
    assert set(worker_pool.each(os.getenv, ["QIANWEN_TOLD"] * 2, workers=2)) == {"now"}


def test_a_worker_that_dies_is_told() -> None:
    with pytest.raises(DataError, match="a worker died"):
        list(worker_pool.each(os._exit, [1, 2], workers=2))
    assert list(worker_pool.each(os.path.basename, ["a/b", "a/b"], workers=2)) == ["b", "b"], (
        "and others take its place"
    )


def test_one_worker_needs_no_process() -> None:
    assert list(worker_pool.each(_own_process, [1, 2], workers=1)) == [os.getpid()] * 2


def _own_process(_: int) -> int:
    return os.getpid()


def test_what_fails_in_a_worker_is_said_here_and_the_rest_is_not_waited_for() -> None:
    with pytest.raises(DataError, match="no such file or folder") as caught:
        list(worker_pool.each(worker_pool.listing, ["no such", "neither"] * 20, workers=2))
    assert caught.tb and not worker_pool._idle, "though the error still knows its frames"
    gc.collect()


def test_frames_join_group_and_forget_repeats() -> None:
    edges = worker_pool.frame(pa.table({"low": [1, 1, 2, 2], "high": [2, 3, 3, 3]}))
    turned = worker_pool.renamed(edges, low="high", high="low")
    assert worker_pool.rows(worker_pool.distinct(edges, edges)).num_rows == 3
    assert worker_pool.rows(worker_pool.where(turned, "low", "<", "high")).num_rows == 0
    least = worker_pool.rows(worker_pool.least(turned, "low", "high")).to_pydict()
    assert dict(zip(least["low"], least["high"], strict=True)) == {2: 1, 3: 1}
    joined = worker_pool.join(edges, worker_pool.frame(pa.table({"low": [2], "name": ["two"]})), "low")
    assert worker_pool.rows(joined).to_pydict()["name"] == ["two", "two"]


def test_a_folder_is_listed_by_name_without_what_is_hidden(tmp_path: Path) -> None:
    for name in ("b.txt", "a/c.txt", ".git/config"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("four")
    assert [(found.name, found.size) for found in worker_pool.listing(str(tmp_path))] == [("a/c.txt", 4), ("b.txt", 4)]
    assert [found.name for found in worker_pool.listing(str(tmp_path / "b.txt"))] == ["b.txt"]


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
    found = worker_pool.listing(f"{bucket}/web")
    assert [(one.name, one.size) for one in found] == [("a.txt", 5), ("deep/b.txt", 6)]
    with worker_pool.local_copy(found[1].path, tmp_path) as here:
        assert here.read_bytes() == b"second"
    assert not list(tmp_path.iterdir())


def test_a_bucket_that_is_not_there_is_one_clear_line(bucket: str) -> None:
    with pytest.raises(DataError, match="s3://bucket/none"):
        worker_pool.listing(f"{bucket}/none")


def test_a_bucket_is_read_as_a_folder_is(bucket: str, tmp_path: Path) -> None:
    found = [one for part in plan([f"{bucket}/web"]) for one in read_part(part, tmp_path / "scratch", ())]
    assert {one["source"]: one["text"] for one in found} == {"a.txt": "first", "deep/b.txt": "second"}
    assert not list((tmp_path / "scratch").iterdir()), "copies are gone when they are read"
