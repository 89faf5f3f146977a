"""One root, few kinds."""

import pytest

from qianwen.runtime import errors


@pytest.mark.parametrize("kind", ["ConfigError", "CheckpointError", "DataError", "RequestError", "ToolError"])
def test_every_kind_is_a_value_error_with_one_root(kind):
    error = getattr(errors, kind)("what and how to mend it")
    assert isinstance(error, errors.QianwenError) and isinstance(error, ValueError)
    assert str(error) == "what and how to mend it"


def test_a_request_error_carries_what_http_needs():
    error = errors.RequestError("slow down", status=429, code="rate_limit_exceeded", retry_after=2.0)
    assert (error.status, error.param, error.code, error.retry_after) == (429, None, "rate_limit_exceeded", 2.0)
    assert errors.RequestError("bad").status == 400
