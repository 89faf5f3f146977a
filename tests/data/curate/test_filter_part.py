"""One screened part: what its bytes depend on, so that nothing stale is reused and nothing sound is repeated."""

import dataclasses
import hashlib
import json
from pathlib import Path

import pytest
from pyarrow import parquet

pytest.importorskip("fasttext", reason="fastText comes with the extra `data`")
from qianwen.data.curate.filter_part import LAYOUT, CurateConfig, ScreenSettings, ScreenTask, schema, screen_part
from qianwen.data.curate.input_parts import plan
from qianwen.runtime.files import read_jsonl, write_jsonl

PROSE = "The river rises in the hills and flows through several old towns before it meets the sea near a harbour."
PAGE = f"<html><body><main><p>{PROSE}</p><p>{PROSE}</p></main></body></html>"
CONFIG = CurateConfig(rules=(), identify=False)


def record(body: str, url: str) -> bytes:
    """A record of a WARC file."""
    http = f"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    head = f"WARC/1.0\r\nWARC-Type: response\r\nWARC-Target-URI: {url}\r\nWARC-Date: 2026-01-01T00:00:00Z\r\n"
    head += "WARC-Record-ID: <urn:uuid:00000000-0000-0000-0000-000000000000>\r\n"
    head += f"Content-Type: application/http; msgtype=response\r\nContent-Length: {len(http)}\r\n\r\n"
    return f"{head}{http}\r\n\r\n".encode()


def screen(inputs: Path, folder: Path, **settings: object) -> ScreenTask:
    (part,) = plan([str(inputs)])
    values = {"config": CONFIG, "blocked": (), "slices": tuple(part)} | settings
    task = ScreenTask(settings=ScreenSettings(**values), folder=folder, scratch=folder.parent / "scratch")  # type: ignore[arg-type]
    screen_part(task)
    return task


def made_at(task: ScreenTask) -> int:
    return (task.folder / "documents.parquet").stat().st_mtime_ns


@pytest.mark.parametrize("body", [PAGE, "", "<html><script>x</script></html>"], ids=["page", "empty", "no text"])
def test_a_blocked_page_is_left_out_before_its_text_is_extracted(tmp_path: Path, body: str) -> None:
    """Afterwards it would be left out too, but for another reason where the page has no text."""
    pages = [record(body, "http://ads.bad.org/x"), record(PAGE, "http://good.org/x")]
    (tmp_path / "a.warc").write_bytes(b"".join(pages))
    task = screen(tmp_path / "a.warc", tmp_path / "part", blocked=("bad.org",))
    counts = json.loads((task.folder / "counts.json").read_text())
    assert counts["read"] == 2 and counts["dropped"] == {"read": {"blocked": 1}}
    (dropped,) = read_jsonl(task.folder / "dropped.jsonl.zst")
    assert dropped["source"] == "a.warc:1" and dropped["head"] == ""
    assert dropped["detail"] == "http://ads.bad.org/x", "the reader knew the address, so the page was never parsed"


@pytest.mark.parametrize(
    "changed",
    [
        {"layout": LAYOUT - 1},
        {"layout": LAYOUT + 1},
        {"blocked": ("bad.org",)},
        {"config": dataclasses.replace(CONFIG, scrub=False)},
        {"config": dataclasses.replace(CONFIG, max_chars=5_000)},
    ],
    ids=["older layout", "newer layout", "blocklist", "personal data", "length"],
)
def test_a_part_made_with_other_settings_is_regenerated(tmp_path: Path, changed: dict) -> None:
    write_jsonl(tmp_path / "a.jsonl", [{"text": PROSE}])
    first = made_at(screen(tmp_path / "a.jsonl", tmp_path / "part", **changed))
    second = made_at(screen(tmp_path / "a.jsonl", tmp_path / "part"))
    assert second > first
    assert made_at(screen(tmp_path / "a.jsonl", tmp_path / "part")) == second, "and with the same settings it is kept"


@pytest.mark.parametrize("name", ["a.jsonl", "a.txt", "a.html", "a.md", "a.warc"])
def test_a_file_changed_in_place_is_read_again(tmp_path: Path, name: str) -> None:
    """Its name and its size are the same, so only the time of the change tells."""
    inputs = tmp_path / name

    def write(place: str) -> None:
        text = f"{PROSE} It ends in {place}."
        page = f"<html><body><main><p>{text}</p></main></body></html>"
        forms = {".jsonl": json.dumps({"text": text}), ".html": page}
        inputs.write_bytes(
            record(page, "http://a.org/") if inputs.suffix == ".warc" else forms.get(inputs.suffix, text).encode()
        )

    for place in ("Spain", "Italy"):
        write(place)
        task = screen(inputs, tmp_path / "part")
        (text,) = parquet.read_table(task.folder / "documents.parquet")["text"].to_pylist()
        assert text.endswith(f"in {place}.")


def test_the_layout_names_what_a_part_contains(tmp_path: Path) -> None:
    """Parts of an older version are reused when their layout is this one: raise LAYOUT when this digest changes."""
    rows = [{"text": f"{PROSE} Write to ann@mail.org.", "source": "s:1", "url": "http://a.org/1"}, {"text": 7}]
    write_jsonl(tmp_path / "a.jsonl", rows)
    task = screen(tmp_path / "a.jsonl", tmp_path / "part")
    table = parquet.read_table(task.folder / "documents.parquet")
    assert table.schema.equals(schema(CONFIG))
    content = [table.schema.to_string(), table.to_pylist(), list(read_jsonl(task.folder / "dropped.jsonl.zst"))]
    content.append(json.loads((task.folder / "counts.json").read_text()))
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
    assert json.loads((task.folder / "settings.json").read_text())["layout"] == LAYOUT
    assert (LAYOUT, digest) == (3, "71b99a841b0659d3")
