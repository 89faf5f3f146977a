"""The SQLite file of a server: API keys with quotas and usage, conversations, and links to shared ones.

A key is printed once, when it is created. The file has only its SHA-256, so it cannot leak keys. To look up a key, the
client's secret is hashed and compared with every stored digest in constant time, so the time does not show how much of
a guessed key is right.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from qianwen.runtime.errors import ConfigError
from qianwen.runtime.translation import tr

SCHEMA = """
CREATE TABLE IF NOT EXISTS keys (
    name TEXT PRIMARY KEY, digest TEXT NOT NULL UNIQUE, created REAL NOT NULL, revoked REAL,
    tokens_per_day INTEGER, requests_per_minute INTEGER, is_admin INTEGER NOT NULL DEFAULT 0);
CREATE TABLE IF NOT EXISTS usage (
    name TEXT NOT NULL, day TEXT NOT NULL, requests INTEGER NOT NULL DEFAULT 0,
    prompt_tokens INTEGER NOT NULL DEFAULT 0, completion_tokens INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (name, day));
CREATE TABLE IF NOT EXISTS conversations (
    id TEXT PRIMARY KEY, owner TEXT NOT NULL, title TEXT NOT NULL, updated REAL NOT NULL, messages TEXT NOT NULL,
    settings TEXT NOT NULL DEFAULT '{}');
CREATE TABLE IF NOT EXISTS shares (
    token TEXT PRIMARY KEY, owner TEXT NOT NULL, conversation TEXT NOT NULL, title TEXT NOT NULL, updated REAL NOT NULL,
    messages TEXT NOT NULL, UNIQUE (owner, conversation));
CREATE INDEX IF NOT EXISTS conversations_by_owner ON conversations (owner, updated DESC);
"""


@dataclass(frozen=True)
class Key:
    """The name and the limits of an API key."""

    name: str
    tokens_per_day: int | None = None
    requests_per_minute: int | None = None
    is_admin: bool = False  # may fine-tune and load models


@dataclass(frozen=True)
class Conversation:
    """A saved conversation, its messages as OpenAI dicts."""

    id: str
    title: str
    updated: float
    messages: list[dict]
    settings: dict


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def _today() -> str:
    return time.strftime("%Y-%m-%d", time.gmtime())


class Store:
    """One SQLite file, safe to use from every thread of the server."""

    def __init__(self, path: Path | str, *, create: bool = True):
        """Open the file; without `create` a file that does not exist is an error."""
        self.path = Path(path)
        if not create and not self.path.exists():
            message = (
                "there is no store {path}; check --store, or create it with `qianwen keys add NAME --store {path}`"
            )
            raise ConfigError(tr(message, path=path))
        self._lock = threading.Lock()
        try:
            if str(path) != ":memory:":
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self.path.touch(0o600)  # readable by its owner only; SQLite gives its other files the same mode
            self._db = sqlite3.connect(str(path), check_same_thread=False)
            with self._write() as db:
                db.execute("PRAGMA journal_mode=WAL")
                db.executescript(SCHEMA)
                if "is_admin" not in {row[1] for row in db.execute("PRAGMA table_info(keys)")}:  # of an older version
                    db.execute("ALTER TABLE keys ADD COLUMN is_admin INTEGER NOT NULL DEFAULT 0")
        except (sqlite3.Error, OSError) as error:
            raise ConfigError(
                tr("cannot open the store {path} ({reason}); choose another file with --store", path=path, reason=error)
            ) from error

    @contextmanager
    def _write(self) -> Iterator[sqlite3.Connection]:
        with self._lock, self._db:
            yield self._db

    def _rows(self, query: str, *values: object) -> list[tuple]:
        with self._lock:
            return self._db.execute(query, values).fetchall()

    def close(self) -> None:
        with self._lock:
            self._db.close()

    # ---- keys ----

    def add_key(
        self,
        name: str,
        *,
        tokens_per_day: int | None = None,
        requests_per_minute: int | None = None,
        is_admin: bool = False,
    ) -> str:
        """Create a key called `name` and return its secret, which cannot be read again."""
        if not name or len(name) > 64 or not name.isprintable():
            raise ConfigError(tr("a key name must have 1 to 64 printable characters; got {name!r}", name=name))
        for option, limit in (("tokens-per-day", tokens_per_day), ("requests-per-minute", requests_per_minute)):
            if limit is not None and not 0 < limit < 2**63:
                raise ConfigError(tr("--{option} {limit}: give a number of at least 1", option=option, limit=limit))
        secret = "qw-" + secrets.token_urlsafe(32)
        try:
            with self._write() as db:
                db.execute(
                    "INSERT INTO keys (name, digest, created, tokens_per_day, requests_per_minute, is_admin)"
                    " VALUES (?,?,?,?,?,?)",
                    (name, _digest(secret), time.time(), tokens_per_day, requests_per_minute, is_admin),
                )
        except sqlite3.IntegrityError:
            raise ConfigError(
                tr("a key called {name} already exists, active or revoked; choose another name", name=name)
            ) from None
        return secret

    def revoke_key(self, name: str) -> None:
        with self._write() as db:
            if not db.execute(
                "UPDATE keys SET revoked=? WHERE name=? AND revoked IS NULL", (time.time(), name)
            ).rowcount:
                raise ConfigError(
                    tr("there is no active key called {name}; `qianwen keys list` lists the keys", name=name)
                )

    def find_key(self, secret: str) -> Key | None:
        """The key with this secret, or None. Compares all digests, also after a match, so the time is constant."""
        digest_of_secret, match = _digest(secret), None
        for name, digest, per_day, per_minute, is_admin in self._rows(
            "SELECT name, digest, tokens_per_day, requests_per_minute, is_admin FROM keys WHERE revoked IS NULL"
        ):
            if hmac.compare_digest(digest_of_secret, digest):
                match = Key(name, per_day, per_minute, bool(is_admin))
        return match

    def has_keys(self) -> bool:
        return bool(self._rows("SELECT 1 FROM keys WHERE revoked IS NULL LIMIT 1"))

    def key_table(self) -> list[dict]:
        """All keys with their limits and their usage, today and in total; never a secret."""
        rows = self._rows(
            "SELECT k.name, k.created, k.revoked, k.tokens_per_day, k.requests_per_minute, k.is_admin,"
            " COALESCE(SUM(u.requests),0), COALESCE(SUM(u.prompt_tokens+u.completion_tokens),0),"
            " COALESCE(SUM(CASE WHEN u.day=? THEN u.prompt_tokens+u.completion_tokens END),0)"
            " FROM keys k LEFT JOIN usage u ON u.name=k.name GROUP BY k.name ORDER BY k.created",
            _today(),
        )
        names = [
            "name",
            "created",
            "revoked",
            "tokens_per_day",
            "requests_per_minute",
            "is_admin",
            "requests",
            "tokens",
            "tokens_today",
        ]
        return [dict(zip(names, row, strict=True)) for row in rows]

    def add_usage(self, name: str, *, prompt_tokens: int, completion_tokens: int, requests: int = 1) -> None:
        with self._write() as db:
            db.execute(
                "INSERT INTO usage (name, day, requests, prompt_tokens, completion_tokens) VALUES (?,?,?,?,?)"
                " ON CONFLICT (name, day) DO UPDATE SET requests=requests+excluded.requests,"
                " prompt_tokens=prompt_tokens+excluded.prompt_tokens,"
                " completion_tokens=completion_tokens+excluded.completion_tokens",
                (name, _today(), requests, prompt_tokens, completion_tokens),
            )

    def tokens_today(self, name: str) -> int:
        rows = self._rows("SELECT prompt_tokens+completion_tokens FROM usage WHERE name=? AND day=?", name, _today())
        return rows[0][0] if rows else 0

    # ---- conversations ----

    def save_conversation(self, owner: str, conversation: Conversation) -> None:
        """Insert or replace. ConfigError if the id belongs to another owner, whose conversation stays unchanged."""
        with self._write() as db:
            changed = db.execute(
                "INSERT INTO conversations (id, owner, title, updated, messages, settings) VALUES (?,?,?,?,?,?)"
                " ON CONFLICT (id) DO UPDATE SET title=excluded.title, updated=excluded.updated,"
                " messages=excluded.messages, settings=excluded.settings WHERE owner=excluded.owner",
                (
                    conversation.id, owner, conversation.title, conversation.updated,
                    json.dumps(conversation.messages, ensure_ascii=False), json.dumps(conversation.settings),
                ),
            ).rowcount  # fmt: skip
        if not changed:
            raise ConfigError(tr("there is no conversation {id}", id=conversation.id))

    def conversation_titles(self, owner: str, *, search: str = "", limit: int = 200) -> list[tuple[str, str]]:
        """Id and title of the owner's conversations that contain `search`, newest first."""
        query, values = _search_query("id, title", owner, search, limit)
        return self._rows(query, *values)

    def conversations(self, owner: str, *, search: str = "", limit: int = 100) -> list[Conversation]:
        """The owner's conversations that contain `search`, newest first."""
        query, values = _search_query("id, title, updated, messages, settings", owner, search, limit)
        rows = self._rows(query, *values)
        return [Conversation(i, t, u, json.loads(m), json.loads(s)) for i, t, u, m, s in rows]

    def conversation(self, owner: str, id: str) -> Conversation | None:
        rows = self._rows(
            "SELECT id, title, updated, messages, settings FROM conversations WHERE owner=? AND id=?", owner, id
        )
        return next((Conversation(i, t, u, json.loads(m), json.loads(s)) for i, t, u, m, s in rows), None)

    def rename_conversation(self, owner: str, id: str, title: str) -> None:
        with self._write() as db:
            db.execute("UPDATE conversations SET title=? WHERE owner=? AND id=?", (title, owner, id))

    def delete_conversation(self, owner: str, id: str) -> None:
        with self._write() as db:
            db.execute("DELETE FROM conversations WHERE owner=? AND id=?", (owner, id))
            db.execute("DELETE FROM shares WHERE owner=? AND conversation=?", (owner, id))

    # ---- shared conversations ----

    def share(self, owner: str, conversation: Conversation) -> str:
        """Share a copy of a conversation, and return its token. A second call replaces the copy and keeps the token."""
        messages = json.dumps(conversation.messages, ensure_ascii=False)
        with self._write() as db:
            db.execute(
                "INSERT INTO shares (token, owner, conversation, title, updated, messages) VALUES (?,?,?,?,?,?)"
                " ON CONFLICT (owner, conversation) DO UPDATE SET title=excluded.title, updated=excluded.updated,"
                " messages=excluded.messages",
                (secrets.token_urlsafe(24), owner, conversation.id, conversation.title, time.time(), messages),
            )
        token = self.share_token(owner, conversation.id)
        assert token is not None
        return token

    def share_token(self, owner: str, id: str) -> str | None:
        """The token of a shared conversation, or None if it is not shared."""
        rows = self._rows("SELECT token FROM shares WHERE owner=? AND conversation=?", owner, id)
        return rows[0][0] if rows else None

    def shared(self, token: str) -> Conversation | None:
        """The copy that was shared, without its settings."""
        rows = self._rows("SELECT conversation, title, updated, messages FROM shares WHERE token=?", token)
        return next((Conversation(i, t, u, json.loads(m), {}) for i, t, u, m in rows), None)

    def revoke_share(self, owner: str, id: str) -> None:
        with self._write() as db:
            db.execute("DELETE FROM shares WHERE owner=? AND conversation=?", (owner, id))


def _search_query(columns: str, owner: str, search: str, limit: int) -> tuple[str, tuple[object, ...]]:
    """The SQL query for an owner's conversations that contain `search`, and its values."""
    # % and _ are wildcards of LIKE and must match as plain characters
    pattern = "%" + search.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%"
    query = (
        f"SELECT {columns} FROM conversations WHERE owner=?"
        " AND (title LIKE ? ESCAPE '\\' OR messages LIKE ? ESCAPE '\\') ORDER BY updated DESC LIMIT ?"
    )
    return query, (owner, pattern, pattern, limit)
