"""Many prompts at once: answers in order, several for one prompt, log-likelihoods, embeddings.

Run it where `qianwen demo` (or `qianwen demo --quick`) has run, or name a model: python examples/batch.py MODEL
"""

import sys

from qianwen import LLM, SamplingParams
from qianwen.engine.scoring import embed, loglikelihoods

llm = LLM.load(sys.argv[1] if len(sys.argv) > 1 else "runs/demo")

# All prompts run together; a seed gives the same text whatever else is in the batch.
params = SamplingParams(temperature=0.8, top_p=0.9, seed=1, max_tokens=12)
for prompt, result in zip(
    prompts := ["In 1905", "def add(", "The city of"], llm.generate(prompts, params), strict=True
):
    print(f"{prompt!r} … {result.text!r}   [{result.outputs[0].finish_reason}]")

# Three answers share the work of reading their prompt.
several = llm.generate(["Once"], SamplingParams(n=3, seed=2, max_tokens=8, logprobs=2))[0]
for answer in several.outputs:
    print(answer.index, repr(answer.text), f"log p = {sum(item.logprob for item in answer.logprobs):.2f}")

# What the model thinks of given continuations: the likelier one is the better answer.
encode = llm.tokenizer.encode
question = encode("The capital of France is")
choices = [" Paris", " banana"]
for choice, score in zip(choices, loglikelihoods(llm, [(question, encode(c)) for c in choices]), strict=True):
    print(f"{choice!r}: log p = {score.total:.2f}")

# Texts as vectors of length 1; their product is their likeness.
vectors = embed(llm, [encode(text) for text in ("a small dog", "a little dog", "x = 3")], "mean")
print((vectors @ vectors.T).round(2))
