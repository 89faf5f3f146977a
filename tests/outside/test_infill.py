"""Fill in the middle: the prompt of Qwen2.5-Coder, in Python, on the command line and over HTTP."""

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qianwen.chat.infill import infill_prompt
from qianwen.cli.generate import _start
from qianwen.engine.llm import LLM
from qianwen.engine.llm_engine import EngineConfig
from qianwen.engine.sampling_params import SamplingParams
from qianwen.model.config import QwenConfig
from qianwen.model.transformer import Qwen
from qianwen.runtime.errors import DataError, RequestError
from qianwen.serve import protocol
from qianwen.serve.bridge import Bridge
from qianwen.serve.chat_routes import prepare_completion
from qianwen.serve.service import Served
from qianwen.tokenizer.tokenizer import Tokenizer
from qianwen.tokenizer.vocab import Vocabulary

FIM = ("<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>", "<|fim_pad|>", "<|repo_name|>", "<|file_sep|>")
BASIC = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
PREFIX, MIDDLE, SUFFIX = 259, 260, 261
ENDS = set(range(259, 265)) | {256}


def tokenizer(*names: str) -> Tokenizer:
    ranks = {bytes([value]): value for value in range(256)}
    return Tokenizer(Vocabulary(ranks, {name: 256 + number for number, name in enumerate((*BASIC, *names))}))


def llm(*names: str) -> LLM:
    config = QwenConfig(
        vocab_size=272, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=128,
    )  # fmt: skip
    model = Qwen(config).init_weights(1).eval()
    greedy = SamplingParams(temperature=0, max_tokens=8)
    return LLM(model, tokenizer(*names), EngineConfig(num_blocks=64), defaults=greedy)


@pytest.fixture(scope="module")
def coder() -> LLM:
    return llm(*FIM)


def test_prefix_suffix_and_middle_are_in_the_order_of_the_training() -> None:
    ids, stops = infill_prompt(tokenizer(*FIM), "ab", "cd")
    assert ids == [PREFIX, *b"ab", SUFFIX, *b"cd", MIDDLE]
    assert set(stops) == ENDS


@pytest.mark.parametrize("text", [*FIM, *BASIC, "x<|fim_middle|>y", "<|fim_prefix|>" * 3, "<|fim_|>", "日本\n\t"])
def test_text_that_looks_like_a_token_stays_text(text: str) -> None:
    ids, _ = infill_prompt(tokenizer(*FIM), text, text)
    data = [*text.encode()]
    assert ids == [PREFIX, *data, SUFFIX, *data, MIDDLE]


@given(st.text(), st.text(min_size=1))
def test_any_two_texts_give_exactly_three_special_tokens(prefix: str, suffix: str) -> None:
    ids, _ = infill_prompt(CODER, prefix, suffix)
    assert [token for token in ids if token > 255] == [PREFIX, SUFFIX, MIDDLE]


CODER = tokenizer(*FIM)


@pytest.mark.parametrize("missing", FIM[:3])
def test_a_vocabulary_without_a_token_is_refused_by_its_name(missing: str) -> None:
    with pytest.raises(RequestError, match=r"fill in the middle.*" + missing.replace("|", r"\|")) as error:
        infill_prompt(tokenizer(*(name for name in FIM if name != missing)), "a", "b")
    assert error.value.param == "suffix"


def completion(**fields: object) -> protocol.CompletionRequest:
    return protocol.CompletionRequest.model_validate({"model": "m", "max_tokens": 4, **fields})


@pytest.fixture(scope="module")
def served(coder: LLM):
    bridge = Bridge(coder.engine)
    yield Served("m", bridge, coder.tokenizer, coder.engine.max_model_len, coder.defaults)
    bridge.close()


@pytest.mark.parametrize("suffix", ["", None])
def test_an_empty_suffix_over_http_is_a_plain_completion(served: Served, suffix: str | None) -> None:
    job = prepare_completion(completion(prompt="ab", suffix=suffix), served)
    assert job.prompts == [[*b"ab"]] and job.params[0].stop_token_ids == ()


@pytest.mark.parametrize(
    ("prompt", "prefixes"),
    [
        ("ab", [b"ab"]),
        ("", [b""]),
        (["a", "b"], [b"a", b"b"]),
        ([97, 98], [b"ab"]),
        ([[97], [98, 99]], [b"a", b"bc"]),
    ],
)
def test_every_form_of_prompt_takes_a_suffix(served: Served, prompt: object, prefixes: list[bytes]) -> None:
    job = prepare_completion(completion(prompt=prompt, suffix="z", stop_token_ids=[7], n=2), served)
    assert job.prompts == [[PREFIX, *prefix, SUFFIX, *b"z", MIDDLE] for prefix in prefixes]
    assert set(job.params[0].stop_token_ids) == ENDS | {7} and len(job.choices) == 2 * len(prefixes)


def test_the_context_counts_the_suffix(served: Served) -> None:
    with pytest.raises(RequestError, match="128") as error:
        prepare_completion(completion(prompt="a" * 60, suffix="b" * 65), served)
    assert error.value.code == "context_length_exceeded"


def test_echo_with_a_suffix_is_refused_by_name() -> None:
    with pytest.raises(RequestError, match="echo cannot be combined with suffix"):
        protocol.parse(b'{"model": "m", "prompt": "a", "suffix": "b", "echo": true}', protocol.CompletionRequest)


def test_a_row_of_a_file_takes_a_suffix(coder: LLM) -> None:
    plain = _start(coder, {"prompt": "ab"}).result()
    assert _start(coder, {"prompt": "ab", "suffix": ""}).result().text == plain.text
    stream = _start(coder, {"prompt": "ab", "suffix": "cd"})
    assert stream.prompt_ids == [PREFIX, *b"ab", SUFFIX, *b"cd", MIDDLE] and stream.result().outputs[0].finish_reason
    with pytest.raises(DataError, match="suffix"):
        _start(coder, {"prompt": "ab", "suffix": 5})
    with pytest.raises(RequestError, match="fim_prefix"):
        _start(llm(), {"prompt": "ab", "suffix": "cd"})


def test_over_http_a_model_without_the_tokens_answers_400() -> None:
    from qianwen.serve.admission import Admission, Limits
    from qianwen.serve.app import create_app
    from qianwen.serve.gate import AccessRules
    from qianwen.serve.service import Service

    plain = llm()
    one = Served("plain", Bridge(plain.engine), plain.tokenizer, 128, plain.defaults)
    service = Service([one], Admission(Limits()))
    body = {"model": "plain", "prompt": "a", "suffix": "b", "max_tokens": 2}

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(create_app(service, AccessRules()))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.post("/v1/completions", json=body)

    import asyncio

    answer = asyncio.run(ask())
    service.close()
    assert answer.status_code == 400 and answer.json()["error"]["param"] == "suffix"
