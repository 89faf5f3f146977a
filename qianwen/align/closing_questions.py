"""After the last step: does the model end its answers? A few questions of the training data are answered to see it.

A model that was never taught the end token writes until its length limit. The questions are those with the shortest
answers; each answer may be three times as long as the learned one. Questions that do not fit the context with their
answer are counted and left out. The model has been written by then, so an error here is reported and ends no run.
"""

from collections.abc import Iterable
from typing import NamedTuple

from qianwen.align.records import Dialogue
from qianwen.chat.functions import function_stop
from qianwen.chat.render import ChatFormat, render
from qianwen.engine.llm import LLM
from qianwen.engine.llm_engine import EngineConfig
from qianwen.engine.sampling_params import SamplingParams
from qianwen.model.transformer import Qwen
from qianwen.runtime.errors import RequestError
from qianwen.tokenizer.tokenizer import Tokenizer

NUM_QUESTIONS = 8
SPARE_TOKENS = 16  # room of a short answer, beside three times its length


class Ended(NamedTuple):
    """How many answers ended with the end token, how many were generated, how many questions did not fit."""

    num_ended: int
    num_answers: int
    num_too_long: int


class _Question(NamedTuple):
    ids: list[int]
    max_tokens: int
    stop: tuple[str, ...]


def ended_answers(model: Qwen, tokenizer: Tokenizer, dialogues: Iterable[Dialogue]) -> Ended:
    """Answer the questions with the shortest learned answers, greedily. `model` is in eval mode."""
    firsts = [Dialogue(dialogue.messages[: _first_answer(dialogue) + 1], dialogue.functions) for dialogue in dialogues]
    questions: list[_Question] = []
    num_too_long = 0
    for first in sorted(firsts, key=_answer_size):
        if len(questions) == NUM_QUESTIONS:
            break
        try:
            question = _question(first, tokenizer, model.config.max_position_embeddings)
        except RequestError:  # no form in this model's format; reported when the data was rendered
            continue
        if question is None:
            num_too_long += 1
        else:
            questions.append(question)
    if not questions:
        return Ended(0, 0, num_too_long)
    # A cache for these answers only: a run that trained in little memory must not need much at its end.
    size = EngineConfig.block_size
    blocks = sum(-(-(len(question.ids) + question.max_tokens) // size) + 1 for question in questions)
    config = EngineConfig(max_num_seqs=NUM_QUESTIONS, num_blocks=blocks)
    llm = LLM(model, tokenizer, config, end_ids=ChatFormat(tokenizer).end_ids)
    params = [SamplingParams(temperature=0.0, max_tokens=q.max_tokens, stop=q.stop) for q in questions]
    answers = llm.generate([question.ids for question in questions], params)
    num_ended = sum(answer.outputs[0].finish_reason == "stop" for answer in answers)
    return Ended(num_ended, len(answers), num_too_long)


def _question(first: Dialogue, tokenizer: Tokenizer, context: int) -> _Question | None:
    """The prompt of a dialogue that ends with its answer; None if both together are longer than the context."""
    prompt = render(first.messages[:-1], tokenizer, functions=first.functions, add_generation_prompt=True).ids
    complete = render(first.messages, tokenizer, functions=first.functions).ids
    # Without the end token and the line end after it. A prompt may have an open <think> that `complete` has not.
    answer_len = max(len(complete) - len(prompt) - 2, 1)
    if len(complete) > context:
        return None
    stop = function_stop(ChatFormat(tokenizer).functions()) if first.functions else ()
    return _Question(prompt, min(3 * answer_len + SPARE_TOKENS, context - len(prompt)), stop)


def _first_answer(dialogue: Dialogue) -> int:
    answers = (index for index, message in enumerate(dialogue.messages) if message.role == "assistant")
    return next(index for index in answers if index not in dialogue.excluded)


def _answer_size(first: Dialogue) -> int:
    answer = first.messages[-1]
    return len(answer.text) + sum(len(call.name) + len(call.arguments) for call in answer.tool_calls)
