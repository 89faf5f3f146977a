"""Keys are stored as digests, usage is counted, and each owner reads only their own conversations."""

import os
import stat
import sys
import time

import pytest

from qianwen.runtime.errors import ConfigError
from qianwen.serve.store import Conversation, Store


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path / "store.sqlite")
    yield store
    store.close()


def test_a_key_is_found_by_its_secret_only(store):
    secret = store.add_key("ann", tokens_per_day=10)
    assert store.find_key(secret).name == "ann"
    assert store.find_key(secret).tokens_per_day == 10
    for wrong in ("", secret[:-1], secret + " ", secret.upper(), "ann", "\ud800"):
        assert store.find_key(wrong) is None
    store.revoke_key("ann")
    assert store.find_key(secret) is None
    assert not store.has_keys()


def test_the_secret_is_not_in_the_file(store):
    secret = store.add_key("ann")
    content = b"".join(file.read_bytes() for file in store.path.parent.iterdir())
    assert secret.encode() not in content and secret.removeprefix("qw-").encode() not in content


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such modes")
def test_only_the_owner_can_read_the_file(tmp_path):
    outer = os.umask(0)
    try:
        opened = Store(tmp_path / "folder" / "store.sqlite")
        opened.add_key("ann")
        modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in opened.path.parent.iterdir()}
        opened.close()
    finally:
        os.umask(outer)
    assert "store.sqlite" in modes and set(modes.values()) == {0o600}


def test_a_store_in_an_invalid_folder_is_an_error_with_its_path(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="store.sqlite"):
        Store(tmp_path / "file" / "store.sqlite")


def test_names_are_unique_and_printable(store):
    store.add_key("ann")
    for name in ("ann", "", "x" * 65, "a\nb"):
        with pytest.raises(ConfigError):
            store.add_key(name)
    with pytest.raises(ConfigError):
        store.revoke_key("nobody")


def test_usage_is_summed_by_day(store):
    store.add_key("ann")
    store.add_usage("ann", prompt_tokens=3, completion_tokens=4)
    store.add_usage("ann", prompt_tokens=1, completion_tokens=0)
    assert store.tokens_today("ann") == 8
    [row] = store.key_table()
    assert (row["name"], row["requests"], row["tokens"], row["tokens_today"]) == ("ann", 2, 8, 8)


def test_conversations_are_visible_to_their_owner_only(tmp_path):
    first = Store(tmp_path / "s.sqlite")
    conversation = Conversation(
        "id1", "标题 100%", time.time(), [{"role": "user", "content": "<b>hi</b>"}], {"temperature": 0.5}
    )
    first.save_conversation("ann", conversation)
    first.close()
    again = Store(tmp_path / "s.sqlite")
    assert again.conversations("ann") == [conversation]
    assert again.conversations("ann", search="100%") == [conversation]
    assert again.conversations("ann", search="1_0") == []
    assert again.conversation("ann", "id1") == conversation
    assert again.conversation_titles("ann", search="hi") == [("id1", "标题 100%")]
    again.rename_conversation("bob", "id1", "theirs")
    assert again.conversation("ann", "id1") == conversation
    assert again.conversations("bob") == [] and again.conversation("bob", "id1") is None
    with pytest.raises(ConfigError):
        again.save_conversation("bob", conversation)
    again.delete_conversation("bob", "id1")
    assert again.conversation("ann", "id1") == conversation
    again.delete_conversation("ann", "id1")
    assert again.conversations("ann") == []
    again.close()


def test_a_store_that_cannot_be_opened_is_an_error_with_its_path(tmp_path):
    (tmp_path / "dir.sqlite").mkdir()
    with pytest.raises(ConfigError, match="dir.sqlite"):
        Store(tmp_path / "dir.sqlite")


def test_administrators_are_marked_and_an_older_file_is_extended(tmp_path):
    path = tmp_path / "old.sqlite"
    store = Store(path)
    secret = store.add_key("ann")
    store._db.executescript("ALTER TABLE keys DROP COLUMN is_admin; DROP TABLE shares")
    store.close()
    store = Store(path)
    assert store.find_key(secret).is_admin is False
    assert store.find_key(store.add_key("root", is_admin=True)).is_admin is True
    assert [row["is_admin"] for row in store.key_table()] == [0, 1]
    store.close()
