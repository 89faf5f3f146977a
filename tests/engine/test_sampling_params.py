import pytest

from qianwen.engine.sampling_params import SamplingParams
from qianwen.runtime.errors import RequestError


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *[("temperature", value) for value in (-1, float("nan"), float("inf"), "1", None, True, [1])],
        *[("top_p", value) for value in (0, -0.1, 1.1, float("nan"), "x")],
        *[("top_k", value) for value in (-1, 1.5, "3", True)],
        *[("min_p", value) for value in (-0.1, 2)],
        *[("repetition_penalty", value) for value in (0, -1, float("inf"))],
        *[("presence_penalty", value) for value in (-3, 2.1)],
        ("frequency_penalty", 5),
        *[("seed", value) for value in (1.5, "a", 2**65)],
        *[("n", value) for value in (0, 10**9, 1.0, None)],
        *[("logprobs", value) for value in (-1, 21, True)],
        *[("max_tokens", value) for value in (-1, 1.5)],
        *[("stop", value) for value in (("",), ("x",) * 65, ("x" * 2000,), (3,))],
        *[("stop_token_ids", value) for value in (7, "7", (1.0,), [None], ([1],))],
        *[("logit_bias", value) for value in ({1: 101}, {1: float("nan")}, {1: "x"}, dict.fromkeys(range(1025), 1))],
    ],
)
def test_a_value_out_of_range_is_refused_by_name(field, value):
    with pytest.raises(RequestError, match=field):
        SamplingParams(**{field: value})


def test_values_in_range_are_accepted():
    params = SamplingParams(temperature=0, top_k=5, stop="END", seed=2**63, logit_bias={3: -100}, max_tokens=None)
    assert params.is_greedy and params.changes_scores and params.stop == ("END",)
    assert SamplingParams(stop_token_ids=[3, 1]).stop_token_ids == (3, 1), "a list of JSON is a tuple afterwards"
    assert not SamplingParams().changes_scores and SamplingParams(top_k=1).is_greedy


@pytest.mark.parametrize(
    "fields",
    [
        {"logit_bias": dict.fromkeys(range(1024), 1)},
        {"logit_bias": {1: -100, 2: 100}},
        {"stop": ("x",) * 64},
        {"stop": ("x" * 1024,)},
        {"n": 128, "logprobs": 20, "seed": 2**64 - 1},
    ],
)
def test_the_limits_are_in_range(fields):
    params = SamplingParams(**fields)
    assert all(getattr(params, name) == value for name, value in fields.items())
