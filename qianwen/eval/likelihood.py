"""What a text costs: every token of it, its first and its end included, so that models with any vocabulary compare.

    document        its first token, which nothing precedes, as one of `vocab_size` equally likely ones; each later
                    token by the model; its end by the end-of-document token
    continuation    every token by the model; the context before it is free
    choices         each of a few next tokens by the model, in one request
    windows         every token but the first of each window by the model

The likelihoods are the engine's (`engine/scoring.py`).
"""

import math
from collections.abc import Iterator, Sequence

import torch

from qianwen.engine.llm import LLM
from qianwen.engine.scoring import document_loglikelihoods, loglikelihoods, next_token_logprobs
from qianwen.eval.length_windows import cut_windows, window_loss
from qianwen.eval.task import Answer, Choice, Loglikelihood, Windows
from qianwen.runtime.errors import ConfigError
from qianwen.runtime.translation import tr
from qianwen.tokenizer.tokenizer import Tokenizer


def likelihoods(llm: LLM, examples: Sequence[Loglikelihood]) -> Iterator[Answer]:
    """The answers to `examples`. RequestError for a context and continuation longer than the model's window."""
    encode = llm.tokenizer.encode
    pairs = [(encode(example.context), encode(example.continuation)) for example in examples if example.context]
    texts = [[*encode(example.continuation), llm.tokenizer.eod_id] for example in examples if not example.context]
    continuations = iter(loglikelihoods(llm, pairs))
    documents = iter(document_loglikelihoods(llm, texts))
    for example in examples:
        if example.context:
            likelihood = next(continuations)
            yield Answer(logprob=likelihood.total, num_tokens=len(likelihood.logprobs))
        else:
            likelihood = next(documents)
            total = likelihood.total - math.log(llm.tokenizer.vocab_size)
            yield Answer(logprob=total, num_tokens=len(likelihood.logprobs) + 1)


def read_windows(llm: LLM, example: Windows) -> Answer:
    """The likelihood of a document in windows. RequestError for windows that are longer than the model's context."""
    parts = cut_windows(llm.tokenizer.encode(example.text), example.length, example.longest).tolist()
    nats = [
        [-logprob for logprob in each.logprobs] for each in loglikelihoods(llm, [(ids[:1], ids[1:]) for ids in parts])
    ]
    loss = window_loss(torch.tensor(nats, dtype=torch.float64), example.shortest)
    return Answer(logprob=-loss.every_token.amount, num_tokens=int(loss.every_token.count), shares=loss._asdict())


def choose(llm: LLM, example: Choice) -> Answer:
    """The log-probability of each choice. ConfigError if a choice is not one token after the context."""
    context, ids = choice_ids(llm.tokenizer, example)
    logprobs = next_token_logprobs(llm, [context], ids)[0]
    return Answer(choice_logprobs=tuple(map(float, logprobs)), num_tokens=1, is_stopped=True)


def choice_ids(tokenizer: Tokenizer, example: Choice) -> tuple[list[int], list[int]]:
    """The token ids of the context, cut if it is too long, and the id of each choice."""
    context, ids = tokenizer.encode(example.context), []
    for text in example.choices:
        *before, last = tokenizer.encode(example.context + text)
        if before != context:
            message = "the choice {text!r} is {number} tokens in the vocabulary of this model; it must be one token"
            raise ConfigError(tr(message, text=text, number=len(tokenizer.encode(text))))
        ids.append(last)
    if example.max_tokens and len(context) > example.max_tokens:
        context = context[1 - example.max_tokens :]
    return context, ids
