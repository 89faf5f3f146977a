"""Every limit is a clear refusal, and whatever was promised is given back."""

import pytest

from qianwen.runtime.errors import RequestError
from qianwen.serve.admission import Admission, Limits, answer_limit
from qianwen.serve.store import Key, Store


def refusal(admission: Admission, key: Key | None = None, tokens: int = 1) -> RequestError:
    with pytest.raises(RequestError) as error, admission.admit(key, tokens):
        pass
    return error.value


def test_room_is_counted_and_given_back_even_after_an_error():
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


def test_a_draining_server_takes_nobody():
    admission = Admission(Limits())
    admission.draining = True
    assert refusal(admission).status == 503


def test_a_key_has_a_rate_and_a_daily_quota():
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
    ("prompt", "asked", "context", "given"), [(10, None, 16, 6), (10, 6, 16, 6), (15, None, 16, 1)]
)
def test_an_answer_gets_what_it_asks_or_the_rest_of_the_context(prompt, asked, context, given):
    assert answer_limit(prompt, asked, context) == given


@pytest.mark.parametrize(("prompt", "asked"), [(16, None), (17, None), (160, None), (16_000, 1), (10, 7), (1, 10**9)])
def test_what_does_not_fit_is_refused_never_cut(prompt, asked):
    with pytest.raises(RequestError) as error:
        answer_limit(prompt, asked, 16)
    assert (error.value.status, error.value.code) == (400, "context_length_exceeded")
