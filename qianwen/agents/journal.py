"""The journal of agents: runs, their steps and their calls, in a folder of its own.

    journal.sqlite       runs, steps, calls and permissions
    <run>/files/         what the user attached and what tools made; the tools of a run see this folder
    <run>/.lock          held while a process works on the run

A step is committed before anything depends on it. An agent that was killed continues from the steps that are here. A
call goes through these states; each change is a commit, so that no side effect happens twice:

    new ── allowed ── started ── done
     └─ asked ─┘ └─ denied ── done

`asked` is a question to the user. It outlives the process: `answer` may be called later, by another process.
`started` without `done` is a call that a kill interrupted; see `calls.py` for what happens to it.

Several processes may use one file. `MIGRATIONS` brings the file of an older version up to date.
"""

from __future__ import annotations

import json
import secrets
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from qianwen.agents.step import Call, End, Given, Result, Step, from_record, to_record
from qianwen.runtime.errors import ConfigError
from qianwen.runtime.files import json_text
from qianwen.runtime.translation import tr

FILE = "journal.sqlite"
CallState = Literal["new", "asked", "allowed", "denied", "started", "done"]
BUSY_SECONDS = 30.0  # how long to wait while another process writes
MIGRATIONS = (  # entry n brings a file of version n to version n + 1; entries are never changed, only added
    """
    CREATE TABLE runs (id TEXT PRIMARY KEY, agent TEXT NOT NULL, created REAL NOT NULL);
    CREATE TABLE steps (
        run TEXT NOT NULL REFERENCES runs, number INTEGER NOT NULL, record TEXT NOT NULL,
        tokens INTEGER NOT NULL, seconds REAL NOT NULL, created REAL NOT NULL, PRIMARY KEY (run, number));
    CREATE TABLE calls (
        key TEXT PRIMARY KEY, run TEXT NOT NULL, number INTEGER NOT NULL, state TEXT NOT NULL,
        reason TEXT NOT NULL DEFAULT '""', changed REAL NOT NULL, FOREIGN KEY (run, number) REFERENCES steps);
    CREATE TABLE grants (run TEXT NOT NULL REFERENCES runs, tool TEXT NOT NULL, PRIMARY KEY (run, tool));
    CREATE INDEX calls_by_state ON calls (state, run);
    """,
)


@dataclass(frozen=True)
class SavedRun:
    """A run in the journal. `title` is the start of its first question; `state` is how its last question ended."""

    id: str
    agent: str
    created: float
    title: str
    state: str  # a reason of `End`, or `open`


@dataclass(frozen=True)
class LoggedCall:
    """A call, its state, and the reason of the decision about it."""

    key: str
    run: str
    call: Call
    state: CallState
    reason: str
    changed: float


class Journal:
    """The journal in a folder, safe to use from several threads and processes."""

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        self.path = self.folder / FILE
        self._lock = threading.RLock()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self.path.touch(0o600)  # readable by its owner only; SQLite gives its other files the same mode
            self._db = sqlite3.connect(self.path, timeout=BUSY_SECONDS, check_same_thread=False, isolation_level=None)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._migrate()
        except (sqlite3.Error, OSError) as error:
            message = "cannot open the journal {path} ({reason}); choose another folder"
            raise ConfigError(tr(message, path=self.path, reason=error)) from error

    def _migrate(self) -> None:
        with self._write() as db:
            version = db.execute("PRAGMA user_version").fetchone()[0]
            if version > len(MIGRATIONS):
                message = "the journal {path} was written by a newer version of this program; update the program"
                raise ConfigError(tr(message, path=self.path))
            for script in MIGRATIONS[version:]:
                for statement in script.split(";"):
                    db.execute(statement)
            db.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")

    @contextmanager
    def _write(self, *, to_disk: bool = False) -> Iterator[sqlite3.Connection]:
        """One transaction. An error rolls it back."""
        with self._lock:
            try:
                self._db.execute(f"PRAGMA synchronous={'FULL' if to_disk else 'NORMAL'}")
                self._db.execute("BEGIN IMMEDIATE")
                try:
                    yield self._db
                except BaseException:
                    self._db.execute("ROLLBACK")
                    raise
                self._db.execute("COMMIT")
            except sqlite3.Error as error:
                message = "cannot write the journal {path}: {reason}"
                raise ConfigError(tr(message, path=self.path, reason=error)) from error

    def _rows(self, query: str, *values: object) -> list[tuple]:
        with self._lock:
            try:
                return self._db.execute(query, values).fetchall()
            except sqlite3.Error as error:
                raise ConfigError(
                    tr("cannot read the journal {path}: {reason}", path=self.path, reason=error)
                ) from error

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()

    def files(self, run: str) -> Path:
        """The folder of a run that its tools see."""
        return self.folder / run / "files"

    # ---- runs and steps ----

    def create_run(self, agent: str, run: str | None = None) -> str:
        """A new run of the agent called `agent`; returns its id, which is made from the time if it is not given."""
        run = run or f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"
        with self._write() as db:
            if db.execute("SELECT 1 FROM runs WHERE id = ?", (run,)).fetchone():
                raise ConfigError(tr("there is already a run {run}; choose another name", run=run))
            db.execute("INSERT INTO runs VALUES (?, ?, ?)", (run, agent, time.time()))
        self.files(run).mkdir(parents=True, exist_ok=True)
        return run

    def find_run(self, name: str) -> str:
        """The id of the run whose id is `name` or begins with it; `last` is the newest. Raises ConfigError."""
        ids = [row[0] for row in self._rows("SELECT id FROM runs ORDER BY created DESC")]
        if name == "last" and ids:
            return ids[0]
        matches = [name] if name in ids else [each for each in ids if each.startswith(name)]
        if len(matches) != 1:
            message = "{count} runs match {name!r}; the newest are: {runs}"
            raise ConfigError(tr(message, count=len(matches), name=name, runs=", ".join(ids[:5]) or "–"))
        return matches[0]

    def runs(self) -> list[SavedRun]:
        """All runs, the newest first."""
        rows = self._rows("SELECT id, agent, created FROM runs ORDER BY created DESC")
        return [SavedRun(run, agent, created, *_summary(self.steps(run))) for run, agent, created in rows]

    def steps(self, run: str) -> list[Step]:
        """All steps of a run."""
        rows = self._rows("SELECT record FROM steps WHERE run = ? ORDER BY number", run)
        return [from_record(json.loads(row[0])) for row in rows]

    def spent(self, run: str, start: int) -> tuple[int, float]:
        """The tokens and seconds of all steps from number `start` on."""
        query = "SELECT COALESCE(SUM(tokens), 0), COALESCE(SUM(seconds), 0.0) FROM steps WHERE run = ? AND number >= ?"
        return self._rows(query, run, start)[0]  # type: ignore[return-value]

    def add(self, run: str, number: int, steps: Sequence[Step], *, tokens: int = 0, seconds: float = 0.0) -> None:
        """Commit steps together; the first has the number `number`. A `Call` begins its log, a `Result` ends it."""
        now = time.time()
        with self._write() as db:
            for index, step in enumerate(steps, start=number):
                row = (run, index, json_text(to_record(step)), tokens, seconds, now)
                db.execute("INSERT INTO steps VALUES (?, ?, ?, ?, ?, ?)", row)
                tokens, seconds = 0, 0.0
                if isinstance(step, Call):
                    db.execute(
                        "INSERT INTO calls (key, run, number, state, changed) VALUES (?, ?, ?, 'new', ?)",
                        (step.call.id, run, index, now),
                    )
                elif isinstance(step, Result):
                    query = "UPDATE calls SET state = 'done', changed = ? WHERE key = ?"
                    db.execute(query, (now, step.call_id))

    # ---- calls and permissions ----

    def calls(self, run: str | None = None, state: CallState | None = None) -> list[LoggedCall]:
        """The log of calls: of one run or of all, in one state or in any."""
        rows = self._rows(
            "SELECT key, calls.run, record, state, reason, changed FROM calls JOIN steps USING (run, number)"
            " WHERE (?1 IS NULL OR calls.run = ?1) AND (?2 IS NULL OR state = ?2) ORDER BY calls.rowid",
            run,
            state,
        )
        return [_logged(*row) for row in rows]

    def state(self, key: str) -> CallState:
        """The state of a call."""
        return self._rows("SELECT state FROM calls WHERE key = ?", key)[0][0]

    def reason(self, key: str) -> str:
        """The reason of the last decision about a call."""
        return json.loads(self._rows("SELECT reason FROM calls WHERE key = ?", key)[0][0])

    def decide(self, key: str, state: CallState, reason: str = "") -> None:
        """Log the policy's decision about a new call: `allowed`, `asked` or `denied`."""
        with self._write() as db:
            query = "UPDATE calls SET state = ?, reason = ?, changed = ? WHERE key = ? AND state = 'new'"
            count = db.execute(query, (state, json_text(reason), time.time(), key)).rowcount
            assert count, key

    def answer(self, key: str, allow: bool, *, always: bool = False) -> bool:
        """The user's answer about a call that is `asked`; False if the question is no longer open.

        `always` allows the same tool for the rest of the run.
        """
        with self._write() as db:
            state, reason = ("allowed", "by the user") if allow else ("denied", "by the user")
            query = "UPDATE calls SET state = ?, reason = ?, changed = ? WHERE key = ? AND state = 'asked'"
            if not db.execute(query, (state, json.dumps(reason), time.time(), key)).rowcount:
                return False
            if always and allow:
                query = "SELECT calls.run, record FROM calls JOIN steps USING (run, number) WHERE key = ?"
                run, record = db.execute(query, (key,)).fetchone()
                name = json_text(json.loads(record)["name"])
                db.execute("INSERT OR IGNORE INTO grants VALUES (?, ?)", (run, name))
        return True

    def grants(self, run: str) -> set[str]:
        """The tools that the user allowed for the rest of a run."""
        return {json.loads(row[0]) for row in self._rows("SELECT tool FROM grants WHERE run = ?", run)}

    def start(self, keys: Sequence[str], *, to_disk: bool) -> None:
        """Log that calls begin now. A call that was interrupted may begin again.

        `to_disk` for side effects: the row is on the disk before this returns, with all rows before it, so that the
        side effect does not happen twice after a loss of power either.
        """
        with self._write(to_disk=to_disk) as db:
            for key in keys:
                query = (
                    "UPDATE calls SET state = 'started', changed = ? WHERE key = ? AND state IN ('allowed', 'started')"
                )
                count = db.execute(query, (time.time(), key)).rowcount
                assert count, key


def _logged(key: str, run: str, record: str, state: CallState, reason: str, changed: float) -> LoggedCall:
    call = from_record(json.loads(record))
    assert isinstance(call, Call)
    return LoggedCall(key, run, call, state, json.loads(reason), changed)


def _summary(steps: Sequence[Step]) -> tuple[str, str]:
    """The title and the state of a run."""
    questions = [step.message.text for step in steps if isinstance(step, Given) and step.message.role == "user"]
    title = " ".join(questions[0].split())[:60] if questions else ""
    return title, steps[-1].reason if steps and isinstance(steps[-1], End) else "open"
