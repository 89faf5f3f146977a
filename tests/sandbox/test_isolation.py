"""A back-end is used if it works on this machine; otherwise the error says what was tried and what to do."""

from typing import get_args

import pytest

from qianwen.runtime.errors import ConfigError
from qianwen.sandbox import isolation
from qianwen.sandbox.running import Backend


def test_at_least_one_back_end_works_on_a_machine_that_runs_the_tests():
    refusals = {backend: isolation.refusal(backend) for backend in get_args(Backend)}
    assert "" in refusals.values(), refusals


def refuse(monkeypatch, **reasons: str) -> None:
    monkeypatch.setattr(isolation, "refusal", lambda backend: reasons.get(backend, ""))


def test_the_first_that_works_is_chosen(monkeypatch):
    refuse(monkeypatch)
    assert isolation.choose("auto") == "bubblewrap"
    refuse(monkeypatch, bubblewrap="the program bwrap is not installed")
    assert isolation.choose("auto") == "namespaces"


def test_landlock_alone_is_never_chosen_by_itself(monkeypatch):
    refuse(monkeypatch, bubblewrap="the program bwrap is not installed", namespaces="unshare: Operation not permitted")
    with pytest.raises(ConfigError) as error:
        isolation.choose("auto")
    for part in ("bwrap is not installed", "namespaces: unshare: Operation not permitted", "apt install bubblewrap"):
        assert part in str(error.value)
    assert "sysctl" in str(error.value) and "--sandbox landlock" in str(error.value)
    assert isolation.choose("landlock") == "landlock"


@pytest.mark.parametrize("name", get_args(Backend))
def test_a_named_back_end_that_does_not_work_is_an_error_and_no_other_is_taken(monkeypatch, name):
    refuse(monkeypatch, **{name: "no such thing"})
    with pytest.raises(ConfigError, match=f"{name}: no such thing"):
        isolation.choose(name)


@pytest.mark.parametrize("name", ["docker", "", "none", "Landlock", "auto "])
def test_an_unknown_name_is_an_error(name):
    with pytest.raises(ConfigError, match="choose one of auto, bubblewrap, namespaces, landlock"):
        isolation.choose(name)


@pytest.mark.parametrize("system", ["Darwin", "Windows", "FreeBSD"])
def test_other_systems_are_refused(monkeypatch, system):
    monkeypatch.setattr(isolation.platform, "system", lambda: system)
    with pytest.raises(ConfigError, match=f"cannot be isolated on {system}"):
        isolation.choose("auto")
