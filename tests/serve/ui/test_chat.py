"""The event handlers of the chat page, called directly as an attacker would call them through Gradio."""

import random

import pytest

pytest.importorskip("gradio", reason="the pages need the [ui] extra")

from qianwen.runtime.files import RunFolder  # noqa: E402
from qianwen.serve.gate import AccessRules  # noqa: E402
from qianwen.serve.store import Conversation, Store  # noqa: E402

NUM_GUESSES = 1000


@pytest.fixture(scope="module")
def server(start, tmp_path_factory):
    """Ann has a conversation; Bob has a key too."""
    store = Store(tmp_path_factory.mktemp("store") / "s.sqlite")
    keys = [store.add_key(name) for name in ("ann", "bob")]
    messages = [{"role": "user", "content": "the secret of ann"}, {"role": "assistant", "content": "is kept"}]
    store.save_conversation("key:ann", Conversation("ab" * 16, "secret title", 1.0, messages, {}))
    with start(store=store, access=AccessRules(keys_required=True, store=store), pages={}) as running:
        running.secrets, running.admin = keys, store.add_key("root", is_admin=True)
        yield running


@pytest.fixture
def pages(clients, page_of):
    """Ann's page and Bob's."""
    return [page_of(client) for client in clients]


def test_owners_open_their_conversations(pages):
    ann, _ = pages
    response = ann.open("ab" * 16)
    assert response.status_code == 200 and "the secret of ann" in response.text


def test_only_answers_use_the_queue(pages):
    """A page has one event stream for its queue, so short handlers must not use it."""
    ann, _ = pages
    question = ann.function("question", "submit")
    called = {
        t[1] for d in ann.config["dependencies"] if d["queue"] is not False and d["backend_fn"] for t in d["targets"]
    }
    assert called == {"submit", "retry", "edit", "example_select", "option_select"}
    body = {"fn_index": question, "data": [], "session_hash": ann.name}
    assert ann.client.post("/gradio_api/run/predict", json=body).status_code == 404, "and they cannot go around it"


@pytest.mark.slow
def test_no_id_opens_the_conversation_of_another_key(pages, server):
    _, bob = pages
    rng = random.Random(0)
    guesses = [f"{rng.getrandbits(128):032x}" for _ in range(NUM_GUESSES)]
    guesses += ["ab" * 16, "AB" * 16, "' OR 1=1 --", "%", "ab" * 15 + "__", "key:ann"]
    choosing, renaming = bob.function("history", "input"), bob.function("title", "submit")
    deleting, searching = bob.function("confirm-delete", "click"), bob.function("search", "change")
    for guess in guesses:
        response = bob.open(guess)
        assert response.status_code == 200 and "secret" not in response.text
    for guess in guesses[NUM_GUESSES:]:
        for call in ((choosing, guess), (renaming, "mine now", guess, ""), (deleting, guess, ""), (searching, "ecret")):
            response = bob.call(*call)
            refused = call[0] == choosing  # Gradio refuses a choice that is not in his list
            assert response.status_code == (500 if refused else 200) and "secret" not in response.text
    stored = server.service.store.conversation("key:ann", "ab" * 16)
    assert stored is not None and stored.title == "secret title" and len(stored.messages) == 2


def test_no_key_reads_the_stream_of_the_page_of_another_key(pages):
    ann, bob = pages
    assert ann.open("ab" * 16).status_code == 200
    bob.name = ann.name
    for response in (
        bob.open("x"),
        bob.client.get("/gradio_api/queue/data", params={"session_hash": ann.name}),
        bob.client.get(f"/gradio_api/heartbeat/{ann.name}"),
        bob.client.post("/gradio_api/cancel", json={"session_hash": ann.name, "fn_index": 0, "event_id": "x"}),
    ):
        assert response.status_code == 404 and "secret" not in response.text
    assert "the secret of ann" in ann.open("ab" * 16).text, "and she is still served"


def test_administrators_see_the_runs_and_other_keys_do_not(server, pages, page_of, tmp_path, monkeypatch):
    _, bob = pages
    monkeypatch.setenv("QIANWEN_RUNS", str(tmp_path))
    RunFolder.create("mine", "sft", {"about": "secret"})
    (tmp_path / "mine" / "report.html").write_text("secret")
    with server.client(headers={"authorization": f"Bearer {server.admin}"}) as client:
        root = page_of(client, "/runs")
        assert "secret" in root.open("").text
        assert client.get("/runs/report", params={"run": "mine"}).text == "secret"
        handlers = [each for each in root.config["dependencies"] if each["backend_fn"] and not each["inputs"]]
        select = root.function("history", "input")
    for path in ("/runs", "/tune"):
        assert bob.client.get(path).status_code == 404
    assert bob.client.get("/runs/report", params={"run": "mine"}).status_code == 404
    # bob's page does not have these handlers, but he can call them by number
    for number, data in [(select, ["mine", None]), *((each["id"], []) for each in handlers)]:
        body = {"fn_index": number, "data": data, "session_hash": "ab", "event_data": None}
        answer = bob.client.post("/gradio_api/run/predict", json=body, params={"open": "mine"})
        assert "secret" not in answer.text, (number, answer.text)
        assert not answer.is_success or number != select, answer.text
