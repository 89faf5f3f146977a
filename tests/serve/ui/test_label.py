"""The label page as a browser or an attacker would use it."""

import asyncio
import re

import httpx
import pytest

from qianwen.align.choosing.labels import LabelFile
from qianwen.runtime.files import read_jsonl, write_jsonl
from qianwen.serve.ui.label import label_app

ATTACK = '</textarea><script>hit()</script><img src=x onerror="hit()">'
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "required": ["x"]}}}
CALL = {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}}
ROWS = [
    {"instruction": ATTACK, "output": ATTACK},
    {"messages": [{"role": "user", "content": "go"}, {"role": "assistant", "content": "", "tool_calls": [CALL]}],
     "tools": [TOOL]},
    {"prompt": "q", "chosen": "good", "rejected": "bad"},
    {"prompt": "p", "chosen": "better", "rejected": "worse"},
]  # fmt: skip


@pytest.fixture
def labels(tmp_path):
    write_jsonl(tmp_path / "rows.jsonl", ROWS)
    return LabelFile(tmp_path / "rows.jsonl")


@pytest.fixture
def page(labels):
    transport = httpx.ASGITransport(label_app(labels))
    return Browser(labels, transport)


class Browser:
    """Sends what the form of a row would send."""

    def __init__(self, labels, transport):
        self.labels, self.transport = labels, transport

    def request(self, method, path, headers=None, **options):
        async def send():
            async with httpx.AsyncClient(transport=self.transport, base_url="http://127.0.0.1") as client:
                return await client.request(method, path, headers=headers, **options)

        return asyncio.run(send())

    def save(self, row, action, **fields):
        data = {"row": str(row), "key": self.labels.rows[row].key, "action": action, **fields}
        return self.request("POST", "/save", data=data, headers={"origin": "http://127.0.0.1"})


def test_no_text_of_the_data_becomes_html(page):
    page.save(0, "save", note='"><script>hit()</script>')
    for path in ("/", "/?notice=<script>hit()</script>&show=<b>&ability=<i>", "/?row=0"):
        reply = page.request("GET", path)
        assert reply.status_code == 200 and "<img" not in reply.text
        assert re.findall(r"<script[^>]*>", reply.text) == ['<script src="/label.js">']
        assert "script-src 'self'" in reply.headers["content-security-policy"]
        assert "unsafe" not in reply.headers["content-security-policy"]


def test_other_sites_and_hosts_are_refused(page):
    data = {"row": "0", "key": page.labels.rows[0].key, "action": "keep"}
    for headers in ({"origin": "http://evil.example"}, {"origin": "null"}, {"host": "evil.example"}):
        assert page.request("POST", "/save", data=data, headers=headers).status_code == 403
    assert page.request("GET", "/", headers={"host": "evil.example"}).status_code == 403
    assert page.labels.rows[0].label.mark == "" and not page.labels.labels_path.exists()


@pytest.mark.parametrize("fields", [{"row": "9"}, {"row": "-1"}, {"row": "x"}, {"key": "other"}])
def test_a_form_for_another_row_changes_nothing(page, fields):
    data = {"row": "0", "key": page.labels.rows[0].key, "action": "keep", **fields}
    assert page.request("POST", "/save", data=data).status_code == 409
    assert not page.labels.labels_path.exists()


def test_values_that_the_page_does_not_offer_are_ignored(page):
    page.save(0, "mark-all", ability="<b>", **{"text-99": "x"})
    page.save(2, "prefer-z")
    assert not page.labels.labels_path.exists()
    assert page.request("POST", "/save", data={f"f{n}": "" for n in range(3000)}).status_code == 400


def test_marks_and_edits_are_on_the_disk_and_the_next_row_follows(page):
    reply = page.save(0, "keep", ability="writing", note="n", **{"text-1": "line\r\nline"})
    assert reply.status_code == 303 and "row=1" in reply.headers["location"]
    label = LabelFile(page.labels.path).rows[0].label
    assert (label.mark, label.ability, label.note, label.texts) == ("keep", "writing", "n", {1: "line\nline"})
    assert "line\nline</textarea>" in page.request("GET", "/?row=0").text
    page.save(0, "clear", **{"text-1": ATTACK})
    assert page.labels.rows[0].label.mark == "" and page.labels.rows[0].label.texts == {}


def test_arguments_that_break_the_schema_keep_the_row_open(page):
    assert "row=1" in page.save(1, "keep", **{"text-2": "{}"}).headers["location"]
    assert 'id="checks">invalid arguments' in page.request("GET", "/?row=1&stay=1").text
    assert "row=2" in page.save(1, "keep", **{"text-2": '{"x": 2}'}).headers["location"]


def test_a_pair_is_ranked_by_what_the_page_shows_and_exported(page):
    for row in (2, 3):
        document = page.request("GET", f"/?row={row}").text
        shown = re.findall(r"<textarea[^>]*>\n(.*?)</textarea>", document, re.S)
        page.save(row, "prefer-b")
        better = page.labels.rows[row].edited[page.labels.rows[row].label.preference][0]["content"]
        assert len(shown) == 2 and better == shown[1]
    page.save(3, "clear")
    assert page.labels.rows[3].label.preference == ""
    page.save(0, "export")
    assert len(list(read_jsonl(page.labels.path.with_name("rows.jsonl.preferences.jsonl")))) == 1


def test_the_filter_shows_only_its_rows(page):
    page.save(0, "flag")
    assert 'id="place">Row 1 ' in page.request("GET", "/?show=flag").text
    assert 'id="place">Row 2 ' in page.request("GET", "/?show=unmarked").text
    assert 'id="place">Row 2 ' in page.request("GET", "/?row=0&show=unmarked").text
    assert "No row matches" in page.request("GET", "/?show=drop").text


def test_chinese(page, monkeypatch):
    monkeypatch.setattr("qianwen.serve.ui.label_page.language", lambda: "zh")
    assert 'lang="zh-Hans"' in page.request("GET", "/").text
