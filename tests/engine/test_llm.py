import threading

import pytest

from qianwen.chat import FunctionSpec, Message, ToolCall, collect
from qianwen.engine.llm import LLM
from qianwen.engine.llm_engine import EngineConfig
from qianwen.engine.sampling import Sampler
from qianwen.engine.sampling_params import SamplingParams
from qianwen.runtime.errors import RequestError

from .conftest import byte_tokenizer, tiny_model

GREEDY = SamplingParams(temperature=0, max_tokens=20, ignore_eos=True)


def is_idle(llm: LLM) -> bool:
    blocks = llm.engine.blocks
    return blocks.num_free_blocks == blocks.num_blocks and not llm.shared.num_open and not llm.engine._requests


def test_texts_and_ids_are_answered_in_order(llm, greedy, tokenizer):
    prompts = ["hello", "world, hello", "x"]
    results = llm.generate(prompts, GREEDY)
    assert [result.outputs[0].token_ids for result in results] == [greedy(list(p.encode()), 20) for p in prompts]
    by_ids = llm.generate([tokenizer.encode(prompt) for prompt in prompts], [GREEDY] * 3)
    assert [result.text for result in by_ids] == [result.text for result in results]
    assert results[0].usage.completion_tokens == 20 and results[0].outputs[0].finish_reason == "length"
    assert is_idle(llm)


def test_the_pieces_of_a_stream_are_the_full_answer(llm):
    """R39."""
    params = SamplingParams(seed=3, max_tokens=60, stop=("e", "好"), logprobs=1)
    for seed in range(5):
        whole = llm.stream("hello", params).result()
        pieces = list(llm.stream("hello", params))
        assert "".join(piece.text for piece in pieces) == whole.text
        assert [token for piece in pieces for token in piece.token_ids] == whole.outputs[0].token_ids
        assert pieces[-1].finish_reason == whole.outputs[0].finish_reason
        assert pieces[-1].usage.completion_tokens == whole.usage.completion_tokens
        assert len(whole.outputs[0].logprobs) == len(whole.outputs[0].token_ids)
        params = SamplingParams(seed=seed, max_tokens=60, stop=("e", "好"), logprobs=1)


def test_the_end_token_ends_an_answer_and_has_no_text(llm, tokenizer):
    bias = {tokenizer.im_end_id: 100.0}
    result = llm.generate(["x"], SamplingParams(logit_bias=bias))[0]
    assert result.outputs[0].token_ids == [tokenizer.im_end_id]
    assert (result.text, result.outputs[0].finish_reason) == ("", "stop")
    ignored = llm.generate(["x"], SamplingParams(logit_bias=bias, ignore_eos=True, max_tokens=5))[0]
    assert len(ignored.outputs[0].token_ids) == 5 and ignored.text == ""
    letter = llm.generate(["x"], SamplingParams(logit_bias={65: 100.0}, stop_token_ids=(65,)))[0]
    assert (letter.text, letter.outputs[0].finish_reason) == ("", "stop")


def test_leaving_a_stream_cancels_it(llm):
    stream = llm.stream("hello", SamplingParams(max_tokens=None, ignore_eos=True))
    for _, output in zip(range(3), stream, strict=False):
        assert output.finish_reason is None
    stream.close()
    assert is_idle(llm)
    reply = llm.chat([Message("user", "hello")], ignore_eos=True)
    next(reply)
    del reply
    del stream
    assert is_idle(llm)
    llm.stream("never looked at")
    assert is_idle(llm)


def test_many_threads_share_one_engine(make_llm, greedy):
    llm = make_llm(block_size=8, max_num_seqs=4)
    wrong, prompts = [], [f"thread {number}" for number in range(8)]

    def ask(prompt: str) -> None:
        for _ in range(3):
            if llm.generate([prompt], GREEDY)[0].outputs[0].token_ids != greedy(list(prompt.encode()), 20):
                wrong.append(prompt)

    threads = [threading.Thread(target=ask, args=(prompt,)) for prompt in prompts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong and is_idle(llm)


def test_chat_ends_with_reason_and_usage(llm):
    deltas = list(llm.chat([Message("user", "hi")], max_tokens=5, ignore_eos=True))
    assert deltas[-1].finish_reason == "length" and deltas[-1].usage.completion_tokens == 5
    assert not any(delta.finish_reason for delta in deltas[:-1])
    assert collect(deltas).role == "assistant"
    with pytest.raises(RequestError, match="did you mean temperature"):
        llm.chat([Message("user", "hi")], temprature=1)


class Scripted(Sampler):
    """Makes the model generate a given text."""

    script: list[int] = []

    def choose(self, scores):
        return self.script.pop(0)


@pytest.mark.parametrize(
    ("tags", "reply"),
    [
        ((), 'Thought: add\nAction: add\nAction Input: {"x": 1}\nObservation: 5'),
        (("<tool_call>", "</tool_call>"), 'add\n<tool_call>\n{"name": "add", "arguments": {"x": 1}}\n</tool_call>'),
    ],
)
def test_tool_calls_are_parsed_from_the_stream(monkeypatch, tags, reply):
    tokenizer = byte_tokenizer(*tags)
    llm = LLM(tiny_model(max_position_embeddings=4096), tokenizer, EngineConfig(num_blocks=200))
    ids = tokenizer.encode(reply)
    if tags:  # the model writes the tags as single ids
        ids = []
        for index, part in enumerate(
            reply.replace("</tool_call>", "\0</tool_call>\0").replace("<tool_call>", "\0<tool_call>\0").split("\0")
        ):
            ids += [tokenizer.special_id(part)] if index % 2 else tokenizer.encode(part)
    Scripted.script = [*ids, tokenizer.im_end_id]
    monkeypatch.setattr("qianwen.engine.llm_engine.Sampler", Scripted)
    deltas = list(llm.chat([Message("user", "1")], [FunctionSpec("add")]))
    message = collect(deltas)
    assert message.tool_calls == (ToolCall("add", '{"x": 1}'),)
    assert message.content == "add" and deltas[-1].finish_reason == "tool_calls"


def test_clear_cache_after_a_change_of_the_weights(model, tokenizer):
    mine = tiny_model(seed=5)
    llm = LLM(mine, tokenizer, EngineConfig(block_size=4))
    before = llm.generate(["hello world"], GREEDY)[0].text
    mine.load_state_dict(model.state_dict())
    llm.clear_cache()
    after = llm.generate(["hello world"], GREEDY)[0].text
    assert after == LLM(model, tokenizer).generate(["hello world"], GREEDY)[0].text != before


def test_a_model_in_training_stays_in_training(tokenizer):
    mine = tiny_model().train()
    LLM(mine, tokenizer).generate(["x"], GREEDY)
    assert mine.training and all(p.requires_grad for p in mine.parameters())
