"""Downloads of one's own conversations, and read-only links to copies of them."""

import json
import re

import pytest

pytest.importorskip("gradio", reason="the pages need the [ui] extra")

from markdown_it import MarkdownIt  # noqa: E402

from qianwen.serve.gate import AccessRules  # noqa: E402
from qianwen.serve.store import Conversation, Store  # noqa: E402
from qianwen.serve.ui.export import menu_html, to_json, to_markdown_file  # noqa: E402

ATTACK = "<script>hit(1)</script><img src=x onerror=hit(2)> ![a](http://evil/x.png) [b](javascript:hit(3))"
TALK = Conversation(
    "ab" * 16,
    "A talk",
    5.0,
    [
        {"role": "user", "content": "why?", "files": [{"name": "a.md", "text": "```\ncode\n```"}]},
        {"role": "assistant", "content": "**so**", "reasoning_content": "hm\nhm", "end": "stop", "model": "tiny"},
    ],
    {"model": "tiny", "temperature": 0.5},
)


def test_markdown_has_questions_answers_thoughts_and_files():
    text = to_markdown_file(TALK)
    headings = re.findall(r"^#+ .*", text, re.MULTILINE)
    assert headings == ["# A talk", "## Question", "## tiny"]
    assert "> hm\n> hm\n\n**so**" in text
    fences = [token.content for token in MarkdownIt().parse(text) if token.type == "fence"]
    assert fences == ["```\ncode\n```\n"], "a file stays one block of code, whatever is in it"


def test_json_has_everything():
    saved = json.loads(to_json(TALK))
    assert saved["messages"] == TALK.messages and saved["settings"] == TALK.settings and saved["title"] == "A talk"


@pytest.fixture(scope="module")
def server(start, tmp_path_factory):
    store = Store(tmp_path_factory.mktemp("store") / "s.sqlite")
    keys = [store.add_key(name) for name in ("ann", "bob")]
    with start(store=store, access=AccessRules(keys_required=True, store=store), pages={}) as running:
        running.secrets = keys
        yield running


@pytest.fixture(autouse=True)
def saved(server):
    server.service.store.save_conversation("key:ann", TALK)


def test_owners_download_their_conversations(clients):
    ann, bob = clients
    for kind, expected in (("md", to_markdown_file(TALK)), ("json", to_json(TALK))):
        reply = ann.get(f"/pages/conversations/{TALK.id}.{kind}")
        assert reply.text == expected
        assert reply.headers["content-disposition"] == f"attachment; filename*=UTF-8''A%20talk.{kind}"
        assert bob.get(f"/pages/conversations/{TALK.id}.{kind}").status_code == 404


@pytest.mark.parametrize("title", ['a"; filename=x', "a\r\nset-cookie: b", "../..", "标题", ""])
def test_no_title_breaks_the_header_of_a_download(server, clients, title):
    server.service.store.rename_conversation("key:ann", TALK.id, title)
    reply = clients[0].get(f"/pages/conversations/{TALK.id}.md")
    assert re.fullmatch(r"attachment; filename\*=UTF-8''[\w.%-]+\.md", reply.headers["content-disposition"])
    assert "set-cookie" not in reply.headers


def test_a_link_shows_a_copy_until_it_is_revoked(server, clients):
    ann, bob = clients
    address = ann.post(f"/pages/conversations/{TALK.id}/share").json()["address"]
    assert ann.post(f"/pages/conversations/{TALK.id}/share").json()["address"] == address, "one link a conversation"
    page = bob.get(address)
    assert page.status_code == 200 and "<strong>so</strong>" in page.text and "A talk" in page.text
    assert "<script" not in page.text and "script-src" not in page.headers["content-security-policy"]
    later = [*TALK.messages, {"role": "user", "content": "a later secret"}]
    server.service.store.save_conversation("key:ann", Conversation(TALK.id, "A talk", 6.0, later, {}))
    assert "later secret" not in bob.get(address).text
    assert address in menu_html(server.service.store, "key:ann", TALK)
    assert bob.delete(f"/pages/conversations/{TALK.id}/share").status_code == 200
    assert bob.get(address).status_code == 200, "nobody else revokes it"
    ann.delete(f"/pages/conversations/{TALK.id}/share")
    assert bob.get(address).status_code == 404
    again = ann.post(f"/pages/conversations/{TALK.id}/share").json()["address"]
    assert again != address, "a revoked link never comes back"


def test_nobody_shares_the_conversation_of_another_key(clients):
    _, bob = clients
    assert bob.post(f"/pages/conversations/{TALK.id}/share").status_code == 404


def test_a_deleted_conversation_is_no_longer_shared(server, clients):
    ann, bob = clients
    address = ann.post(f"/pages/conversations/{TALK.id}/share").json()["address"]
    server.service.store.delete_conversation("key:ann", TALK.id)
    assert bob.get(address).status_code == 404


@pytest.mark.parametrize("guess", ["", "x", "%", "' OR 1=1 --", "../serve.sqlite", "A" * 5000])
def test_no_guess_opens_a_shared_conversation(clients, guess):
    ann, bob = clients
    ann.post(f"/pages/conversations/{TALK.id}/share")
    assert bob.get(f"/shared/{guess}").status_code == 404


def test_a_link_needs_a_key_where_keys_are_required(server, clients):
    address = clients[0].post(f"/pages/conversations/{TALK.id}/share").json()["address"]
    with server.client() as nobody:
        assert nobody.get(address).status_code == 401


def test_all_text_of_a_shared_conversation_is_escaped(server, clients):
    turns = [
        {"role": "user", "content": ATTACK, "files": [{"name": ATTACK, "text": ATTACK}]},
        {
            "role": "assistant",
            "content": f"{ATTACK}\n\n```\n{ATTACK}\n```",
            "reasoning_content": ATTACK,
            "model": ATTACK,
        },
    ]
    server.service.store.save_conversation("key:ann", Conversation("cd" * 16, ATTACK, 6.0, turns, {}))
    page = clients[1].get(clients[0].post(f"/pages/conversations/{'cd' * 16}/share").json()["address"]).text
    assert not re.search(r"<(script|img|iframe|svg)\b|href=\"javascript", page)
