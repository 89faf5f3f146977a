"""Talk to a model from Python: a streamed answer, a second turn, a system prompt, and a reply that must be JSON.

Run it where `qianwen demo` (or `qianwen demo --quick`) has run, or name a model: python examples/chat.py MODEL
"""

import sys

from qianwen import LLM, Message
from qianwen.chat import collect
from qianwen.runtime.errors import RequestError

llm = LLM.load(sys.argv[1] if len(sys.argv) > 1 else "runs/demo")

# A reply is a stream of deltas; leaving the loop early cancels it.
conversation = [Message("system", "You are a helpful assistant."), Message("user", "What is 12 + 30?")]
for delta in llm.chat(conversation, temperature=0, max_tokens=40):
    print(delta.text, end="", flush=True)
    if delta.finish_reason:
        print(f"   [{delta.finish_reason}, {delta.usage.completion_tokens} tokens]")

# The next turn sends the conversation again; what was computed for it is found in the cache.
conversation += [collect(llm.chat(conversation, temperature=0, max_tokens=40)), Message("user", "And 5 + 6?")]
for delta in llm.chat(conversation, temperature=0, max_tokens=40):
    print(delta.text, end="", flush=True)
    if delta.finish_reason:
        print(f"   [{delta.usage.cached_tokens} of {delta.usage.prompt_tokens} prompt tokens were cached]")

# With a JSON schema the model can write nothing but what satisfies it.
try:
    schema = {"type": "object", "properties": {"answer": {"type": "integer", "maximum": 99, "minimum": 0}}}
    schema |= {"required": ["answer"], "additionalProperties": False}
    print(collect(llm.chat([Message("user", "What is 2 + 3?")], response_format=schema, temperature=0)).text)
except RequestError as error:  # llguidance is not installed
    print(error)
