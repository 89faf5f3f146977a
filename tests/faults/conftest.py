"""The server of `tests/serve`, for the suites that mistreat it, and what they say of what they saw."""

from collections.abc import Callable

import pytest

from ..serve.conftest import model, start, tokenizer

__all__ = ["model", "start", "tokenizer"]


def full(count: int) -> pytest.param:
    """The number that the nightly run goes to."""
    return pytest.param(count, marks=[pytest.mark.nightly, pytest.mark.timeout(3600)])


@pytest.fixture
def report(request: pytest.FixtureRequest, record_property) -> Callable[..., None]:
    """Print what was measured (`pytest -s` shows it), and keep it in the results file if there is one."""

    def say(**numbers: object) -> None:
        line = " ".join(f"{name}={value}" for name, value in numbers.items())
        print(f"\n{request.node.name}: {line}")
        for name, value in numbers.items():
            record_property(name, value)

    return say


def percentile(values: list[float], share: float) -> float:
    """The value below which `share` of them lie, in milliseconds, as they come in seconds."""
    return round(sorted(values)[min(int(share * len(values)), len(values) - 1)] * 1e3, 1)
