"""A model that thinks, served by `qianwen serve` in a process of its own and called by the official client.

No small model that thinks is at hand, so a network with Qwen3's configuration learns a few answers by heart, in the
format of Qwen3's template: with thoughts, without them, and in a conversation whose earlier thoughts are left out. With
QIANWEN_CHAT_TEMPLATES, a folder with the templates of llama.cpp, it is Qwen3's own template, else a short one of ours.
"""

import asyncio
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch

openai = pytest.importorskip("openai", reason="the official client is not installed")

from qianwen.chat import Message, from_openai, render  # noqa: E402
from qianwen.chat.begun_answer import begun_ids  # noqa: E402
from qianwen.checkpoints.hf_folder import write_folder  # noqa: E402
from qianwen.engine.llm import LLM  # noqa: E402
from qianwen.engine.llm_engine import EngineConfig  # noqa: E402
from qianwen.engine.sampling_params import SamplingParams  # noqa: E402
from qianwen.model.config import QwenConfig  # noqa: E402
from qianwen.model.transformer import Qwen  # noqa: E402
from qianwen.serve.admission import Admission, Limits  # noqa: E402
from qianwen.serve.bridge import Bridge  # noqa: E402
from qianwen.serve.gate import ANONYMOUS  # noqa: E402
from qianwen.serve.service import Served, Service  # noqa: E402
from qianwen.serve.store import Store  # noqa: E402
from qianwen.serve.ui.conversation import (  # noqa: E402
    ChatBackend,
    Settings,
    add_question,
    continue_answer,
    new_conversation,
)
from qianwen.tokenizer.template_files import TemplateSource  # noqa: E402
from qianwen.tokenizer.tokenizer import Tokenizer  # noqa: E402

from ..outside import test_chat_templates as small  # noqa: E402

HI = {"role": "user", "content": "hi"}
LATER = [HI, {"role": "assistant", "content": "yes", "reasoning_content": "hm, who\nis it"}, HI]
THOUGHT, PLAIN = Message("assistant", "yes", reasoning_content="hm, who\nis it"), Message("assistant", "no.")
AGAIN = Message("assistant", "you again", reasoning_content="seen before")
LESSONS = [([HI], True, THOUGHT), ([HI], False, PLAIN), (LATER, True, AGAIN)]
STEPS = 400


def source() -> str:
    """Qwen3's template, if it is here."""
    folder = os.environ.get("QIANWEN_CHAT_TEMPLATES")
    path = Path(folder or ".") / "Qwen-Qwen3-0.6B.jinja"
    return path.read_text(encoding="utf-8") if folder and path.exists() else small.THINKING


def prompt_ids(tokenizer: Tokenizer, messages: list[dict], thinking: bool) -> list[int]:
    given = [from_openai(message) for message in messages]
    return render(given, tokenizer, add_generation_prompt=True, thinking=thinking).ids


def taught(tokenizer: Tokenizer) -> Qwen:
    """A network that has learned the answers by heart."""
    config = QwenConfig(
        vocab_size=320, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=512, qkv_bias=False, qk_norm=True, tie_word_embeddings=True,
    )  # fmt: skip
    model = Qwen(config).init_weights(seed=1)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    examples = []
    for messages, thinking, answer in LESSONS:
        before = prompt_ids(tokenizer, messages, thinking)
        after = [*begun_ids(answer, tokenizer, is_thinking=False), tokenizer.special_tokens["<|im_end|>"]]
        examples.append((torch.tensor([before + after]), len(before)))
    for _ in range(STEPS):
        losses = []
        for ids, start in examples:
            logits = model.logits(model(ids[:, :-1]))[0, start - 1 :]
            losses.append(torch.nn.functional.cross_entropy(logits, ids[0, start:]))
        loss = torch.stack(losses).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if loss < 0.01:
            break
    assert loss < 0.1
    return model.eval()


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer(small.vocabulary(), template=TemplateSource(source()))


@pytest.fixture(scope="module")
def folder(tokenizer, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("thinker")
    write_folder(taught(tokenizer), tokenizer, path, chat=True)
    return path


@pytest.fixture(scope="module")
def client(folder, tmp_path_factory) -> Iterator[Any]:
    """The official client of a server in a process of its own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    home = tmp_path_factory.mktemp("home")
    command = [sys.executable, "-m", "qianwen", "serve", f"thinker={folder}", "--port", str(port), "--no-ui"]
    with (home / "log").open("wb") as log:
        server = subprocess.Popen([*command, "--store", str(home / "s.sqlite")], stdout=log, stderr=log)
    try:
        with httpx.Client(trust_env=False) as http:
            wait_until_ready(http, f"http://127.0.0.1:{port}/ready", server, home / "log")
            yield openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none", max_retries=0, http_client=http)
    finally:
        server.terminate()
        server.wait(30)


def wait_until_ready(http: httpx.Client, url: str, server: subprocess.Popen, log: Path) -> None:
    deadline = time.monotonic() + 120
    while True:
        try:
            if http.get(url).status_code == 200:
                return
        except httpx.HTTPError:
            assert server.poll() is None and time.monotonic() < deadline, log.read_text()
        time.sleep(0.2)


def ask(client: Any, messages: list[dict], **options: Any) -> Any:
    return client.chat.completions.create(model="thinker", messages=messages, temperature=0, max_tokens=64, **options)


def parts(reply: Any) -> tuple[str | None, str | None, str]:
    """Thoughts, answer, and why it ended."""
    choice = reply.choices[0]
    return getattr(choice.message, "reasoning_content", None), choice.message.content, choice.finish_reason


WITH_THOUGHTS, WITHOUT = ("hm, who\nis it", "yes", "stop"), (None, "no.", "stop")
ON = [
    {},
    {"extra_body": {"chat_template_kwargs": {"enable_thinking": True}}},
    {"reasoning_effort": "low"},
    {"reasoning_effort": "high"},
    {"extra_body": {"chat_template_kwargs": {}}},
]
OFF = [
    {"extra_body": {"chat_template_kwargs": {"enable_thinking": False}}},
    {"reasoning_effort": "none"},
    {"reasoning_effort": "minimal"},
    {"reasoning_effort": "none", "extra_body": {"chat_template_kwargs": {}}},
]


@pytest.mark.parametrize(("options", "want"), [*((on, WITH_THOUGHTS) for on in ON), *((off, WITHOUT) for off in OFF)])
@pytest.mark.parametrize("stream", [False, True])
def test_thoughts_are_switched_and_apart_from_the_answer(client, options, want, stream) -> None:
    if not stream:
        assert parts(ask(client, [HI], **options)) == want
        return
    thoughts, text, order, ends = "", "", [], []
    for chunk in ask(client, [HI], stream=True, **options):
        delta = chunk.choices[0].delta
        more = getattr(delta, "reasoning_content", None)
        thoughts, text = thoughts + (more or ""), text + (delta.content or "")
        order += ["thought"] * bool(more) + ["answer"] * bool(delta.content)
        ends += [chunk.choices[0].finish_reason] if chunk.choices[0].finish_reason else []
    assert (thoughts or None, text, ends[-1]) == want and len(ends) == 1
    assert order == sorted(order, reverse=True), "the thoughts come first"


def test_two_switches_that_differ_are_refused_or_one_decides(client) -> None:
    """The variable of the template is the more exact one."""
    options = {"reasoning_effort": "high", "extra_body": {"chat_template_kwargs": {"enable_thinking": False}}}
    assert parts(ask(client, [HI], **options)) == WITHOUT


@pytest.mark.parametrize("field", ["reasoning_content", "inline"])
def test_thoughts_of_the_history_are_left_out(client, tokenizer, field) -> None:
    history = [dict(message) for message in LATER]
    if field == "inline":
        history[1] = {"role": "assistant", "content": "<think>\nhm, who\nis it\n</think>\n\nyes"}
    reply = ask(client, history)
    assert parts(reply) == ("seen before", "you again", "stop")
    plain = [HI, {"role": "assistant", "content": "yes"}, HI]
    assert reply.usage.prompt_tokens == len(prompt_ids(tokenizer, plain, True))


def test_a_limit_inside_the_thoughts_leaves_no_answer(client) -> None:
    thoughts, text, reason = parts(ask(client, [HI], extra_body={"max_completion_tokens": 8, "max_tokens": None}))
    assert reason == "length" and not text and thoughts and "hm, who\nis it".startswith(thoughts)


@pytest.mark.parametrize("value", ["yes", 1, []])
def test_another_value_of_the_switch_is_refused(client, value) -> None:
    with pytest.raises(openai.BadRequestError, match="enable_thinking"):
        ask(client, [HI], extra_body={"chat_template_kwargs": {"enable_thinking": value}})


@pytest.mark.parametrize(("effort", "want"), [(None, ("hm, who\nis it", "yes")), ("none", ("", "no."))])
@pytest.mark.parametrize("stream", [False, True])
def test_responses_have_thoughts_as_an_item(client, effort, want, stream) -> None:
    options = {"reasoning": {"effort": effort}} if effort else {}
    options |= {"model": "thinker", "input": "hi", "temperature": 0, "max_output_tokens": 64}
    if stream:
        with client.responses.stream(**options) as events:
            thoughts = "".join(event.delta for event in events if event.type == "response.reasoning_text.delta")
            response = events.get_final_response()
    else:
        response = client.responses.create(**options)
        items = [item for item in response.output if item.type == "reasoning"]
        thoughts = "".join(part.text for item in items for part in item.content)
    assert (thoughts, response.output_text) == want and response.status == "completed"


def test_chat_on_the_command_line_shows_and_switches_thoughts(folder, tmp_path) -> None:
    command = [sys.executable, "-m", "qianwen", "chat", str(folder), "--temperature", "0", "--max-tokens", "64"]
    lines = "hi\nhi\n/reset\n/think off\nhi\n/reset\n/think\nhi\n"
    done = subprocess.run(
        [*command, "--lines"], input=lines, capture_output=True, text=True, cwd=tmp_path, timeout=120, check=True
    )
    with_thoughts = "[thinking]\nhm, who\nis it\n[end of the thoughts]\nyes"
    answers = [part.strip() for part in re.split(r"Thoughts are \w+\.", done.stdout)]
    assert answers[0].startswith(with_thoughts) and "you again" in answers[0], done.stdout
    assert "no." in answers[1] and "[thinking]" not in answers[1]
    assert with_thoughts in answers[2]


@pytest.fixture
def backend(folder, tmp_path) -> Iterator[ChatBackend]:
    llm = LLM.load(str(folder), config=EngineConfig(num_blocks=64))
    served = Served("thinker", Bridge(llm.engine), llm.tokenizer, 512, SamplingParams(temperature=0))
    store = Store(tmp_path / "s.sqlite")
    service = Service([served], Admission(Limits(), store), store)
    yield ChatBackend(service)
    service.close()


def answered(backend: ChatBackend, conversation: Any) -> Any:
    async def run() -> Any:
        async with aclosing(backend.answer(ANONYMOUS, "page", conversation)) as frames:
            return [frame async for frame in frames][-1].conversation

    return asyncio.run(run())


@pytest.mark.parametrize(("thinking", "want"), [(True, WITH_THOUGHTS), (False, WITHOUT)])
def test_the_page_switches_thoughts_and_saves_them_apart(backend, thinking, want) -> None:
    settings = replace(Settings.from_model(backend.service.model(None)), thinking=thinking)
    saved = answered(backend, add_question(new_conversation(settings), "hi", settings))
    last = saved.messages[-1]
    assert (last.get("reasoning_content"), last["content"], last["end"]) == want
    if thinking:
        last = answered(backend, add_question(saved, "hi", settings)).messages[-1]
        assert (last["reasoning_content"], last["content"]) == ("seen before", "you again")


@pytest.mark.parametrize("limit", range(4, 24, 2))  # three tokens would be the end of the thoughts and no text
def test_the_page_goes_on_with_a_thought_or_an_answer_that_was_cut(backend, limit) -> None:
    settings = replace(Settings.from_model(backend.service.model(None)), max_tokens=limit)
    conversation = add_question(new_conversation(settings), "hi", settings)
    saved = answered(backend, conversation)
    while saved.messages[-1]["end"] == "length":
        saved = answered(backend, continue_answer(saved, settings))
    last = saved.messages[-1]
    assert (last["reasoning_content"], last["content"]) == WITH_THOUGHTS[:2]
