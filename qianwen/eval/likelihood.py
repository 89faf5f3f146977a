"""What a text costs: every token of it, its first and its end included, so that models with any vocabulary compare.

    document        its first token, which nothing precedes, as one of `vocab_size` equally likely ones; each later
                    token by the model; its end by the end-of-document token
    continuation    every token by the model; the context before it is free

The likelihoods are the engine's (`engine/scoring.py`).
"""

import math
from collections.abc import Iterator, Sequence

from qianwen.engine.llm import LLM
from qianwen.engine.scoring import document_loglikelihoods, loglikelihoods
from qianwen.eval.task import Answer, Loglikelihood


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
