"""Our engine behind lm-eval's interface: the same numbers as our own functions, in the order of the requests."""

import itertools
import json
import random
from pathlib import Path

import pytest

pytest.importorskip("lm_eval", reason="the adapter needs lm-eval, of the extra `lm-eval`")

from lm_eval.api.instance import Instance

from qianwen.chat.messages import Message
from qianwen.chat.render import render
from qianwen.engine.llm import LLM
from qianwen.engine.sampling_params import SamplingParams
from qianwen.engine.scoring import loglikelihoods, next_token_logprobs
from qianwen.eval.lm_eval_adapter import HarnessModel, harness_model, run_harness
from qianwen.runtime.errors import ConfigError

pytestmark = pytest.mark.filterwarnings("default")

CONTEXTS = ("The cat", "The dog", "The dog sat", "猫在")
CONTINUATIONS = (" sat", "!", " s", "哪", "")


def requests(kind: str, *arguments: tuple) -> list[Instance]:
    return [
        Instance(request_type=kind, doc={}, arguments=each, idx=number, metadata=("task", number, 1))
        for number, each in enumerate(arguments)
    ]


def expected(llm: LLM, context: str, continuation: str) -> tuple[float, bool]:
    encode = llm.tokenizer.encode
    likelihood = loglikelihoods(llm, [(encode(context), encode(continuation))])[0]
    return likelihood.total, likelihood.is_greedy


@pytest.mark.parametrize("order", [0, 1, 2])
def test_likelihoods_are_those_of_the_engine_in_the_order_of_the_requests(llm: LLM, order: int) -> None:
    pairs = [pair for pair in itertools.product(CONTEXTS, CONTINUATIONS[:4])]
    random.Random(order).shuffle(pairs)
    found = HarnessModel(llm).loglikelihood(requests("loglikelihood", *pairs))
    for pair, (total, is_greedy) in zip(pairs, found, strict=True):
        right = expected(llm, *pair)
        assert (total, is_greedy) == (pytest.approx(right[0], abs=1e-4), right[1]), pair


def test_continuations_of_one_token_share_one_request(llm: LLM, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []
    stream = llm.stream
    monkeypatch.setattr(llm, "stream", lambda ids, *args, **kwargs: opened.append(ids) or stream(ids, *args, **kwargs))
    letters = requests("loglikelihood", *(("Answer:", letter) for letter in "ABCD"))
    found = HarnessModel(llm).loglikelihood(letters)
    assert len(opened) == 1
    ids = [llm.tokenizer.encode(letter)[0] for letter in "ABCD"]
    logprobs = next_token_logprobs(llm, [llm.tokenizer.encode("Answer:")], ids)[0]
    assert [total for total, _ in found] == pytest.approx(list(logprobs))
    best = llm.generate(["Answer:"], SamplingParams(temperature=0, max_tokens=1, ignore_eos=True))[0].outputs[0]
    assert [is_greedy for _, is_greedy in found] == [[token] == best.token_ids for token in ids]


def test_the_most_likely_continuation_is_greedy(llm: LLM) -> None:
    best = llm.generate(["ab"], SamplingParams(temperature=0, max_tokens=1, ignore_eos=True))[0].outputs[0].token_ids
    model = HarnessModel(llm)
    pairs = [(None, llm.tokenizer.encode("ab"), best), (None, llm.tokenizer.encode("ab"), [(best[0] + 1) % 256])]
    assert [is_greedy for _, is_greedy in model._loglikelihood_tokens(pairs)] == [True, False]


def test_an_empty_context_is_the_beginning_of_a_document(llm: LLM) -> None:
    found = HarnessModel(llm).loglikelihood(requests("loglikelihood", ("", "cat")))
    assert found[0][0] == pytest.approx(loglikelihoods(llm, [([], llm.tokenizer.encode("cat"))])[0].total, abs=1e-4)


@pytest.mark.parametrize(("length", "is_cut"), [(10, False), (61, False), (62, True), (63, True), (200, True)])
def test_a_long_context_loses_its_beginning_and_is_counted(llm: LLM, length: int, is_cut: bool) -> None:
    """The model reads 64 tokens with the last of the continuation."""
    model, text = HarnessModel(llm), "".join(chr(97 + number % 26) for number in range(length))
    found = model.loglikelihood(requests("loglikelihood", (text, "xyz"), ("ab", "xyz")))
    assert found[0][0] == pytest.approx(expected(llm, text[-61:], "xyz")[0], abs=1e-4)
    assert model.num_cut == is_cut


def test_a_continuation_longer_than_the_model_is_refused(llm: LLM) -> None:
    with pytest.raises(ConfigError, match="64 tokens does not fit"):
        HarnessModel(llm).loglikelihood(requests("loglikelihood", ("a", "b" * 64)))


@pytest.mark.parametrize("length", [1, 5, 62, 63, 64, 65, 126, 127, 200])
def test_each_token_of_a_document_counts_once(llm: LLM, length: int) -> None:
    text = "".join(chr(97 + number % 26) for number in range(length))
    total = HarnessModel(llm).loglikelihood_rolling(requests("loglikelihood_rolling", (text,)))[0]
    ids, size = llm.tokenizer.encode(text), 63
    before = [llm.tokenizer.eod_id, *ids]
    parts = []
    for end in range(0, length, size):
        count = min(size, length - end)
        first = max(end + count - size, 0)  # the last window begins earlier, so that it is full
        parts.append((before[first : end + 1], ids[end : end + count]))
    assert total == pytest.approx(sum(each.total for each in loglikelihoods(llm, parts)), abs=1e-3)


@pytest.mark.parametrize("until", [["\n"], "\n", [], None, ["zz", "q"], ["<|endoftext|>", ""]])
def test_texts_end_where_the_task_says(llm: LLM, until: object) -> None:
    options = {"max_gen_toks": 20, "do_sample": False} | ({} if until is None else {"until": until})
    prompts = ["The cat", "One", "两"]
    found = HarnessModel(llm).generate_until(requests("generate_until", *((prompt, options) for prompt in prompts)))
    stop = tuple(text for text in ([until] if isinstance(until, str) else until or []) if text)
    outputs = llm.generate(prompts, SamplingParams(temperature=0, max_tokens=20, stop=stop))
    assert found == [output.text for output in outputs]


@pytest.mark.parametrize(
    ("options", "changes"),
    [
        ({}, {"temperature": 0.0, "max_tokens": 40}),
        ({"temperature": 0.7, "do_sample": True, "top_p": 0.9}, {"temperature": 0.7, "top_p": 0.9, "max_tokens": 40}),
        ({"temperature": 0.7, "do_sample": False}, {"temperature": 0.0, "max_tokens": 40}),
        ({"max_new_tokens": 7}, {"temperature": 0.0, "max_tokens": 7}),
        ({"max_tokens": 8, "top_k": 3}, {"temperature": 0.0, "max_tokens": 8, "top_k": 3}),
    ],
)
def test_sampling_is_what_lm_eval_means(llm: LLM, options: dict, changes: dict) -> None:
    model = HarnessModel(llm)
    model.max_gen_toks = 40
    assert model._params(options) == SamplingParams(**changes)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"num_beams": 4}, "sets num_beams"), ({"max_gen_toks": 63}, "63 new tokens"), ({"max_gen_toks": 999}, "has 63")],
)
def test_what_the_engine_cannot_do_is_refused(llm: LLM, options: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        HarnessModel(llm).generate_until(requests("generate_until", ("a", options)))


def test_a_long_prompt_of_a_text_loses_its_beginning(llm: LLM) -> None:
    model, text = HarnessModel(llm), "abcdefghij" * 10
    found = model.generate_until(requests("generate_until", (text, {"max_gen_toks": 13})))
    assert found == [llm.generate([text[-50:]], SamplingParams(temperature=0, max_tokens=13))[0].text]
    assert model.num_cut == 1


CHATS = (
    [Message("user", "hi")],
    [Message("system", "Be brief."), Message("user", "hi\nthere")],
    [Message("user", "1"), Message("assistant", "2"), Message("user", "猫")],
)


@pytest.mark.parametrize("messages", CHATS, ids=len)
def test_a_chat_is_the_ids_of_our_own_template(llm: LLM, messages: list[Message]) -> None:
    model = harness_model(llm)
    history = [{"role": message.role, "content": message.text} for message in messages]
    text = model.apply_chat_template(history)
    assert model.tok_encode(text) == render(messages, llm.tokenizer, add_generation_prompt=True).ids
    started = model.apply_chat_template([*history, {"role": "assistant", "content": "The answer"}], False)
    assert started == text + "The answer"
    assert model.chat_template(True) and model.chat_template(False) is None


def test_the_cache_of_requests_has_a_name_without_slashes(llm: LLM) -> None:
    named = LLM(llm.engine.runner.model, llm.tokenizer, name="a/b c.gguf")
    assert HarnessModel(named).tokenizer_name == "a_b_c.gguf"


TASK = """task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
"""
CHOICE = "output_type: multiple_choice\ndoc_to_text: text\ndoc_to_choice: choices\ndoc_to_target: target\n"
TEXT = """output_type: generate_until
doc_to_text: text
doc_to_target: ""
generation_kwargs: {until: ["\\n"], max_gen_toks: 8}
"""


def test_tasks_of_a_folder_run(llm: LLM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    rows = [{"text": f"{a} + {b} =", "choices": ["3", "44", "555"], "target": 0} for a, b in [(1, 2), (2, 1), (0, 3)]]
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name, kind in (("sums", CHOICE), ("sums_text", TEXT)):
        (tmp_path / f"{name}.yaml").write_text(TASK.format(name=name, data=json.dumps(str(data))) + kind)
    results = run_harness(llm, ["sums", "sums_text"], folder=str(tmp_path), limit=2, bootstrap_iters=0)
    assert len(results["samples"]["sums"]) == len(results["samples"]["sums_text"]) == 2
    encode = llm.tokenizer.encode
    for row in results["samples"]["sums"]:
        pairs = [(encode(row["doc"]["text"]), encode(" " + choice)) for choice in row["doc"]["choices"]]
        totals = [each.total for each in loglikelihoods(llm, pairs)]
        assert [response[0][0] for response in row["resps"]] == pytest.approx(totals, abs=1e-4)
    with pytest.raises(ConfigError, match="no task nonexistent_task"):
        run_harness(llm, ["nonexistent_task"])
