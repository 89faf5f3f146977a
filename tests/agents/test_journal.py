"""The journal: what is committed is there for every other process, and each call has one state."""

import sqlite3
import threading

import pytest

from qianwen.agents import journal as journal_module
from qianwen.agents.journal import FILE, Journal
from qianwen.agents.step import Answer, Call, End, Given, Result
from qianwen.agents.tool import Observation
from qianwen.chat.messages import Message, ToolCall
from qianwen.runtime.errors import ConfigError

ASK = [Given(Message("user", "Write  it\ndown.")), Call(ToolCall("write", '{"x": "\ud800"}', "key"), "changes")]


@pytest.fixture
def run(journal):
    return journal.create_run("agent", "run")


def test_steps_are_read_by_another_connection(journal, run):
    journal.add(run, 0, ASK, tokens=7, seconds=1.5)
    journal.add(run, 2, [Result("key", "write", Observation("ok"))], tokens=1, seconds=0.5)
    other = Journal(journal.folder)
    assert other.steps(run) == journal.steps(run) == [*ASK, Result("key", "write", Observation("ok"))]
    assert other.spent(run, 0) == (8, 2.0) and other.spent(run, 1) == (1, 0.5) and other.spent(run, 9) == (0, 0.0)
    other.close()


def test_steps_are_committed_together_or_not_at_all(journal, run):
    journal.add(run, 0, [Given(Message("user", "a"))])
    with pytest.raises(ConfigError, match="UNIQUE"):
        journal.add(run, 0, [Answer("b"), End("answered")])
    assert len(journal.steps(run)) == 1


def test_a_call_goes_through_its_states_and_is_logged(journal, run):
    journal.add(run, 0, ASK)
    assert journal.state("key") == "new"
    journal.decide("key", "asked", "it changes something")
    (call,) = journal.calls(run, "asked")
    assert (call.call.call.name, call.reason) == ("write", "it changes something") and journal.calls("other") == []
    assert journal.answer("key", allow=True)
    assert journal.state("key") == "allowed" and journal.reason("key") == "by the user"
    journal.start(["key"], to_disk=True)
    journal.start(["key"], to_disk=True)  # again after a kill
    journal.add(run, 2, [Result("key", "write", Observation("ok"))])
    assert journal.state("key") == "done" and journal.calls(state="started") == []


def test_only_an_open_question_can_be_answered(journal, run):
    journal.add(run, 0, ASK)
    assert not journal.answer("key", allow=True) and not journal.answer("nothing", allow=True)
    journal.decide("key", "asked")
    assert journal.answer("key", allow=False) and not journal.answer("key", allow=True)
    assert journal.state("key") == "denied"
    with pytest.raises(AssertionError):
        journal.start(["key"], to_disk=True)


def test_always_is_a_grant_for_the_run(journal, run):
    journal.add(run, 0, ASK)
    journal.decide("key", "asked")
    journal.answer("key", allow=True, always=True)
    assert journal.grants(run) == {"write"} and journal.grants("other") == set()


def test_a_denial_grants_nothing(journal, run):
    journal.add(run, 0, ASK)
    journal.decide("key", "asked")
    journal.answer("key", allow=False, always=True)
    assert journal.grants(run) == set()


def test_runs_are_listed_and_found_by_the_start_of_their_id(journal, run):
    journal.add(run, 0, [ASK[0]])
    second = journal.create_run("agent", "second")
    journal.add(second, 0, [Given(Message("user", "Hi.")), Answer("Ho."), End("answered")])
    assert [(saved.id, saved.title, saved.state) for saved in journal.runs()] == [
        ("second", "Hi.", "answered"),
        ("run", "Write it down.", "open"),
    ]
    assert [journal.find_run(name) for name in ("last", "sec", "run")] == ["second", "second", "run"]
    journal.create_run("agent", "run-2")
    assert journal.find_run("run") == "run"
    for name, count in (("", 3), ("x", 0)):
        with pytest.raises(ConfigError, match=f"{count} runs match"):
            journal.find_run(name)
    with pytest.raises(ConfigError, match="already"):
        journal.create_run("agent", "run")


def test_new_runs_have_ids_of_their_own(journal):
    assert len({journal.create_run("agent") for _ in range(5)}) == 5


def test_threads_and_processes_write_at_the_same_time(journal):
    other = Journal(journal.folder)

    def write(store, name):
        run = store.create_run("agent", name)
        for number in range(20):
            store.add(run, number, [Given(Message("user", str(number)))])

    threads = [
        threading.Thread(target=write, args=(store, str(i))) for i, store in enumerate((journal, journal, other))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [len(other.steps(str(i))) for i in range(3)] == [20, 20, 20]
    other.close()


def test_an_older_file_is_brought_up_to_date_and_a_newer_one_is_refused(journal, run, monkeypatch):
    journal.add(run, 0, ASK)
    more = ("ALTER TABLE runs ADD COLUMN note TEXT; UPDATE runs SET note = 'old'",)
    monkeypatch.setattr(journal_module, "MIGRATIONS", (*journal_module.MIGRATIONS, *more))
    newer = Journal(journal.folder)
    assert newer.steps(run) == ASK
    newer.close()
    with sqlite3.connect(journal.path) as database:
        assert database.execute("SELECT note FROM runs").fetchall() == [("old",)]
    database.close()
    monkeypatch.undo()
    with pytest.raises(ConfigError, match="newer version"):
        Journal(journal.folder)


def test_a_failed_migration_changes_nothing(journal, run, monkeypatch):
    monkeypatch.setattr(journal_module, "MIGRATIONS", (*journal_module.MIGRATIONS, "DROP TABLE grants; NONSENSE"))
    with pytest.raises(ConfigError, match="NONSENSE"):
        Journal(journal.folder)
    assert journal.grants(run) == set()


def test_a_file_that_is_no_journal_is_refused(tmp_path):
    (tmp_path / FILE).write_bytes(b"not a database" * 100)
    with pytest.raises(ConfigError, match="not a database"):
        Journal(tmp_path)


def test_only_the_owner_reads_it(journal):
    assert journal.path.stat().st_mode & 0o077 == 0
