"""A row that is wrong is reported with its number, its field and the reason; the rows around it are answered."""

import json

import pytest

from qianwen.cli.generate import generate_file
from qianwen.engine.llm import LLM
from qianwen.engine.sampling_params import SamplingParams
from qianwen.runtime.errors import DataError, RequestError
from qianwen.runtime.files import read_jsonl, read_rows

from ..cli.conftest import tiny

GOOD = b'{"prompt": "one", "id": 1}'
USER = {"role": "user", "content": "x"}
PYTHON_WORDS = ("Traceback", "NoneType", "object has no attribute", "not subscriptable", "KeyError", "unhashable",
                "not iterable", "'str'", "'int'", "'dict'", "'list'", "None", "True", "False")  # fmt: skip

BAD_LINES = [
    b"not json", b"[1, 2]", b'"text"', b"5", b"null", b"{", b'{"prompt": "a",}', b"{'prompt': 'a'}", b"\xff\xfe",
    '{"prompt": "é"}'.encode("latin-1"), b'{"prompt": "a"} {"prompt": "b"}', b"[" * 100_000,
    b'{"a": ' + b"9" * 5000 + b"}",
]  # fmt: skip
BAD_ROWS = [
    ({}, "prompt"), ({"prompt": None}, "prompt"), ({"prompt": 5}, "prompt"), ({"prompt": ["a"]}, "prompt"),
    ({"messages": []}, "messages"), ({"messages": "hi"}, "messages"), ({"messages": {"role": "user"}}, "messages"),
    ({"messages": 5}, "messages"), ({"messages": ["hi"]}, "messages[0]"), ({"messages": [None]}, "messages[0]"),
    ({"messages": [USER, 5]}, "messages[1]"), ({"messages": [{"content": "x"}]}, "messages[0]"),
    ({"messages": [{"role": 5, "content": "x"}]}, "messages[0]"),
    ({"messages": [USER | {"content": 5}]}, "messages[0]"),
    ({"messages": [USER | {"content": [5]}]}, "messages[0]"), ({"messages": [USER | {"name": 5}]}, "messages[0]"),
    ({"messages": [USER | {"content": [{"type": "image_url", "image_url": {"url": "x"}}]}]}, "messages[0]"),
    ({"messages": [{"role": "assistant", "content": "", "tool_calls": "x"}]}, "messages[0]"),
    ({"messages": [{"role": "assistant", "content": "", "tool_calls": ["x"]}]}, "messages[0]"),
    ({"messages": [{"role": "tool", "content": "x", "tool_call_id": 5}]}, "messages[0]"),
    ({"prompt": "a", "sampling": []}, "sampling"), ({"prompt": "a", "sampling": [1]}, "sampling"),
    ({"prompt": "a", "sampling": "greedy"}, "sampling"), ({"prompt": "a", "sampling": 5}, "sampling"),
]  # fmt: skip
BAD_SAMPLING = [
    ("temperature", "0.5"), ("temperature", [1]), ("temperature", True), ("temperature", {}), ("temperature", 10**400),
    ("top_k", 2.5), ("top_k", "3"), ("top_p", 0), ("top_p", "high"), ("min_p", []), ("seed", 1.5), ("seed", "x"),
    ("n", 3), ("n", "1"), ("logprobs", "all"), ("max_tokens", "10"), ("max_tokens", 1.5), ("stop", 5),
    ("stop", [5]), ("stop", [""]), ("stop", {"a": 1}), ("stop_token_ids", "ab"), ("stop_token_ids", [1.5]),
    ("stop_token_ids", 7), ("stop_token_ids", ["7"]), ("stop_token_ids", [True]), ("logit_bias", []),
    ("logit_bias", {"a": 1}), ("logit_bias", {"1": "high"}), ("logit_bias", {"-1": 1}), ("logit_bias", {"1.5": 1}),
    ("logit_bias", {"1": 101}), ("logit_bias", {"1": 10**400}), ("logit_bias", {"99999": 1}), ("logit_bias", 5),
    ("logit_bias", {"9" * 5000: 1}), ("logit_bias", {"²": 1}), ("ignore_eos", "yes"), ("ignore_eos", 1),
    ("grammar", "x"), ("grammar", {}), ("self", 1), ("temprature", 1), ("repetition_penalty", 0),
    ("presence_penalty", "1"), ("frequency_penalty", "high"),
]  # fmt: skip


@pytest.fixture(scope="module")
def llm() -> LLM:
    return LLM(*tiny(), defaults=SamplingParams(temperature=0, max_tokens=3))


def answers(llm: LLM, folder, lines: list[bytes]) -> tuple[int, list[dict]]:
    source, target = folder / "in.jsonl", folder / "out.jsonl"
    source.write_bytes(b"\n".join(lines) + b"\n")
    status = generate_file(llm, source, target)
    return status, [json.loads(line) for line in target.read_bytes().splitlines()]


def test_a_line_that_is_not_an_object_ends_no_batch(llm, tmp_path, capsys):
    lines = [line for bad in BAD_LINES for line in (GOOD, bad)] + [GOOD]
    status, results = answers(llm, tmp_path, lines)
    assert status == 1 and len(results) == len(lines)
    assert all(result["text"] == results[0]["text"] and result["id"] == 1 for result in results[::2])
    for number, result in enumerate(results[1::2], start=1):
        assert f"in.jsonl, line {2 * number}: " in result["error"] and len(result["error"]) < 400
        assert not any(word in result["error"] for word in PYTHON_WORDS)
    printed = capsys.readouterr().out
    assert "row 2: " in printed and f"{len(BAD_LINES)} of them failed" in printed


@pytest.mark.parametrize(("row", "field"), BAD_ROWS)
def test_a_wrong_type_names_its_field(llm, tmp_path, row, field):
    status, results = answers(llm, tmp_path, [GOOD, json.dumps(row).encode(), GOOD])
    assert "error" not in results[0] and results[2] == results[0]
    assert status == 1 and field in results[1]["error"]
    assert not any(word in results[1]["error"] for word in PYTHON_WORDS), results[1]["error"]


def test_wrong_sampling_names_its_field(llm, tmp_path):
    rows = [json.dumps({"prompt": "a", "sampling": {name: value}}).encode() for name, value in BAD_SAMPLING]
    status, results = answers(llm, tmp_path, [line for row in rows for line in (row, GOOD)])
    assert status == 1
    assert all(result["text"] == results[1]["text"] for result in results[1::2])
    for (name, _), result in zip(BAD_SAMPLING, results[::2], strict=True):
        assert name in result.get("error", "") or "token id" in result["error"], (name, result)
        assert len(result["error"]) < 700 and not any(word in result["error"] for word in PYTHON_WORDS), result["error"]


@pytest.mark.parametrize("keys", [[97], ["97"], ["97", "98"], [97, "98"], ["0097"]])
def test_biases_have_the_keys_of_json(llm, keys):
    params = SamplingParams(temperature=0, max_tokens=4, logit_bias=dict.fromkeys(keys, 100))
    assert set(llm.generate(["x"], params)[0].text) <= {"a", "b"}
    assert all(isinstance(key, int) for key in params.logit_bias)


def test_null_stands_for_the_models_own_value(llm, tmp_path):
    sampling = {"temperature": None, "seed": None, "stop": None, "logit_bias": None, "max_tokens": None, "n": None}
    row = json.dumps({"prompt": "one", "id": 1, "sampling": sampling, "messages": None}).encode()
    status, results = answers(llm, tmp_path, [GOOD, row])
    assert status == 0 and results[1]["text"] == results[0]["text"]


def test_failed_rows_can_be_sent_again(llm, tmp_path):
    """The output of a run is a valid input: an old error does not count as a new one."""
    status, results = answers(llm, tmp_path, [GOOD[:-1] + b', "error": "too long"}'])
    assert status == 0 and "error" not in results[0]


@pytest.mark.parametrize("bad", BAD_LINES)
def test_a_reader_that_needs_every_row_names_the_line(tmp_path, bad):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"\n".join([GOOD, bad, GOOD]))
    rows = list(read_rows(path))
    assert [isinstance(row, dict) for row in rows] == [True, False, True]
    with pytest.raises(DataError, match=r"rows\.jsonl, line 2: "):
        list(read_jsonl(path))


def test_a_value_is_quoted_as_json():
    for value, quoted in ((None, "null"), (True, "true"), ("x", '"x"'), ({"a": [1.5]}, '{"a": [1.5]}')):
        with pytest.raises(RequestError) as error:
            SamplingParams(temperature=value)
        assert f"temperature = {quoted} " in str(error.value)
