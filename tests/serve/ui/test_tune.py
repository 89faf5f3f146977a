"""The fine-tuning page is for administrators, and displays what a client sends without trusting it."""

import json
import socket

import pytest

pytest.importorskip("gradio", reason="the pages need the [ui] extra")

from qianwen.runtime.errors import RequestError  # noqa: E402
from qianwen.runtime.files import RunFolder  # noqa: E402
from qianwen.serve.gate import ANONYMOUS, AccessRules  # noqa: E402
from qianwen.serve.store import Key, Store  # noqa: E402
from qianwen.serve.ui.tune import MAX_DATA, before_after_html, check_admin, duration_text  # noqa: E402

ROW = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
ATTACK = "<img src=x onerror=hit(1)>"


def test_where_keys_are_required_only_administrators_change_the_server():
    locked = AccessRules(keys_required=True)
    check_admin(locked, Key("root", is_admin=True))
    check_admin(AccessRules(), ANONYMOUS)
    for key in (Key("ann"), ANONYMOUS, Key("local"), Key("root")):
        with pytest.raises(RequestError, match="administrator") as error:
            check_admin(locked, key)
        assert error.value.status == 403


@pytest.fixture(scope="module")
def server(start, tmp_path_factory):
    """Ann is an administrator, Bob has an ordinary key; both see the runs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("QIANWEN_RUNS", str(tmp_path_factory.mktemp("runs")))
        store = Store(tmp_path_factory.mktemp("store") / "s.sqlite")
        secrets = [store.add_key("ann", is_admin=True), store.add_key("bob")]
        access = AccessRules(keys_required=True, show_runs=True, store=store)
        with start(store=store, access=access, pages={}) as running:
            running.secrets = secrets
            yield running


def test_only_administrators_upload_dialogues(clients):
    ann, bob = clients
    data = json.dumps(ROW).encode()
    reply = ann.post("/pages/dialogues", content=data)
    assert reply.status_code == 200 and reply.json()["text"] == "1 dialogue"
    assert bob.post("/pages/dialogues", content=data).status_code == 403
    assert ann.post("/pages/dialogues", content=b"nonsense").status_code == 400
    assert ann.post("/pages/dialogues", content=data, headers={"origin": "http://evil.example"}).status_code == 403


def test_without_a_key_nothing_is_uploaded(server):
    with server.client() as nobody:
        assert nobody.post("/pages/dialogues", content=b"{}").status_code == 401


def test_a_large_upload_is_refused_before_it_is_sent(server):
    host, port = server.url.removeprefix("http://").split(":")
    head = (
        f"POST /pages/dialogues HTTP/1.1\r\nHost: {host}:{port}\r\nAuthorization: Bearer {server.secrets[0]}\r\n"
        f"Content-Length: {MAX_DATA + 1}\r\n\r\n"
    )
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(head.encode())
        assert b" 413 " in connection.recv(100)


def test_an_ordinary_key_can_neither_plan_nor_start_nor_stop(clients, page_of):
    bob = page_of(clients[1], "/tune")
    upload = clients[0].post("/pages/dialogues", content=json.dumps(ROW).encode()).json()["id"]
    order = ["tiny", upload, "mine", "", 1]
    # Gradio checks a choice against the list it sent, and Bob got none; whichever refuses first, nothing starts
    reply = bob.call(bob.function("tune-start", "click"), *order)
    assert reply.status_code == 500 or "administrator" in reply.text
    RunFolder.create("theirs", "sft", {})
    bob = page_of(clients[1], "/runs")
    for button in ("talk", "stop-run", "resume-run"):
        bob.call(bob.function("history", "input"), "theirs", None)
        reply = bob.call(bob.function(button, "click"), "theirs")
        assert reply.status_code == 500 or "administrator" in reply.text
    assert RunFolder.open("theirs").record["state"] == "running"


def test_the_table_escapes_every_cell():
    names = ("question", "expected", "before", "after")
    view = before_after_html([dict.fromkeys(names, ATTACK + "\n\n# b")])
    assert "<img" not in view and "\n" not in view and view.count("&lt;img") == 4
    assert before_after_html([]) == ""


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "1 s"),
        (0.2, "1 s"),
        (42, "42 s"),
        (89, "89 s"),
        (90, "2 min"),
        (3000, "50 min"),
        (7200, "2.0 h"),
        (1e6, "277.8 h"),
    ],
)
def test_durations_have_one_unit(seconds, text):
    assert duration_text(seconds) == text
