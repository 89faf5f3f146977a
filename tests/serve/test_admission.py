"""A request above a limit is refused with the right status, and reserved tokens are released."""

import pytest

from qianwen.runtime.errors import RequestError
from qianwen.serve.admission import Admission, Limits, answer_limit
from qianwen.serve.store import Key, Store


def refusal(admission: Admission, key: Key | None = None, tokens: int = 1) -> RequestError:
    with pytest.raises(RequestError) as error, admission.admit(key, tokens):
        pass
    return error.value


def test_tokens_are_reserved_and_released_even_after_an_error():
    admission = Admission(Limits(max_requests=2, max_queued_tokens=100))
    with admission.admit(None, 60):
        assert refusal(admission, tokens=60).code == "queue_full"
        with admission.admit(None, 40):
            error = refusal(admission)
            assert (error.status, error.code) == (429, "queue_full") and error.retry_after
    with pytest.raises(KeyError), admission.admit(None, 100):
        raise KeyError
    assert (admission.requests, admission.tokens) == (0, 0)


def test_a_single_request_larger_than_the_budget_still_runs_alone():
    admission = Admission(Limits(max_queued_tokens=10))
    with admission.admit(None, 50):
        assert refusal(admission).status == 429


def test_a_draining_server_refuses_requests():
    admission = Admission(Limits())
    admission.draining = True
    assert refusal(admission).status == 503


def test_a_key_has_a_rate_limit_and_a_daily_quota():
    store = Store(":memory:")
    admission = Admission(Limits(), store)
    slow, poor = Key("slow", requests_per_minute=2), Key("poor", tokens_per_day=10)
    for _ in range(2):
        with admission.admit(slow, 1):
            pass
    assert refusal(admission, slow).code == "rate_limit_exceeded"
    with admission.admit(poor, 5):
        store.add_usage("poor", prompt_tokens=6, completion_tokens=4)
    assert refusal(admission, poor).code == "insufficient_quota"
    with admission.admit(Key("other", tokens_per_day=10), 12):
        assert refusal(admission, Key("other", tokens_per_day=10)).code == "insufficient_quota"
    with admission.admit(Key("other", tokens_per_day=10), 5):
        pass
    store.close()


@pytest.mark.parametrize(
    ("prompt", "max_tokens", "context", "limit"), [(10, None, 16, 6), (10, 6, 16, 6), (15, None, 16, 1)]
)
def test_the_answer_limit_is_max_tokens_or_the_rest_of_the_context(prompt, max_tokens, context, limit):
    assert answer_limit(prompt, max_tokens, context) == limit


@pytest.mark.parametrize(
    ("prompt", "max_tokens"), [(16, None), (17, None), (160, None), (16_000, 1), (10, 7), (1, 10**9)]
)
def test_a_prompt_or_answer_too_long_is_refused_not_cut(prompt, max_tokens):
    with pytest.raises(RequestError) as error:
        answer_limit(prompt, max_tokens, 16)
    assert (error.value.status, error.value.code) == (400, "context_length_exceeded")
