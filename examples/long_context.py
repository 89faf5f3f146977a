"""Read a text that is longer than the trained length: the perplexity with each method, on the same text.

Run it where `qianwen demo` (or `qianwen demo --quick`) has run, or name a model: python examples/long_context.py MODEL
"""

import math
import pydoc_data.topics
import sys

from qianwen import LLM, SamplingParams, load_model
from qianwen.engine.llm_engine import EngineConfig
from qianwen.engine.request import Context
from qianwen.model.long_context import LongContext
from qianwen.model.rope_state import RopeState

model = sys.argv[1] if len(sys.argv) > 1 else "runs/demo"
loaded = load_model(model)
train_len = loaded.config.train_len
config = EngineConfig(max_model_len=4 * train_len, extension=LongContext(rope="dynamic_ntk"))
llm = LLM(loaded.model, loaded.tokenizer, config)
ids = llm.tokenizer.encode("\n".join(pydoc_data.topics.topics.values()))[: 4 * train_len]

METHODS = {
    "plain": {"context": Context(rope=RopeState())},  # a rotation chosen by hand is not limited to the trained length
    "dynamic NTK": {"extension": LongContext(rope="dynamic_ntk")},
    "dynamic NTK, LogN": {"extension": LongContext(rope="dynamic_ntk", logn=True)},
    "YaRN": {"extension": LongContext(rope="yarn", factor=4)},
    "linear": {"extension": LongContext(rope="linear", factor=4)},
}
print(f"perplexity of {len(ids):,} tokens, of a model trained on {train_len:,}")
for name, choice in METHODS.items():
    result = llm.stream(ids, SamplingParams(max_tokens=0), score_from=1, **choice).result()
    scores = [-token.logprob for token in result.prompt_logprobs]
    first, last = scores[: train_len - 1], scores[3 * train_len :]
    print(f"{name:18} first {train_len:,}: {math.exp(sum(first) / len(first)):8.1f}   ", end="")
    print(f"last {train_len:,}: {math.exp(sum(last) / len(last)):8.1f}")
