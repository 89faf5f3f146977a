"""The formats that training, serving and agents share (Qwen report, sections 3.1 and 3.4).

Read in this order:

    messages.py    what a conversation is: Message, FunctionSpec, ToolCall; to and from OpenAI's dicts
    templates/     a model's own chat template, run in a sandbox: messages → spans
    chatml.py      the same for Qwen v1 and for what SFT makes here
    render.py      spans → token ids + loss mask; the only writer of control tokens
    history.py     the window over a history
    infill.py      the prompt for the text between a prefix and a suffix (fill in the middle)
    react.py       the ReAct prompt of Qwen v1, and the reader of Thought / Action / Action Input
    functions.py   both function-calling formats (ReAct, Qwen2.5's <tool_call>) as one incremental reader
    bare_calls.py  calls that are JSON alone, without tags; json_schema.py checks their arguments
    thoughts.py    the thoughts before an answer: <think> … </think>
    model.py       `ChatModel`, the protocol that agents, judges and evaluation tasks use to call a model
    client.py      `ChatClient`, a `ChatModel` behind an OpenAI-compatible URL; sse.py reads its event stream
    answers.py     extract the answer from a reply, and check whether it is correct; nearest_option.py is its last step
    refusals.py    whether a reply refuses, in full or in part
    code_blocks.py extract the program from a reply
    chinese_numerals.py    numbers in Chinese characters

This chapter works with tokens and text only. It does not import the network, the engine or the server.
"""

from qianwen.chat.history import trim_history
from qianwen.chat.messages import (
    AudioPart,
    FunctionSpec,
    ImagePart,
    Message,
    TextPart,
    ToolCall,
    from_openai,
    to_openai,
)
from qianwen.chat.model import ChatModel, Delta, Usage, collect
from qianwen.chat.render import Rendered, render

__all__ = [
    "AudioPart",
    "ChatModel",
    "Delta",
    "FunctionSpec",
    "ImagePart",
    "Message",
    "Rendered",
    "TextPart",
    "ToolCall",
    "Usage",
    "collect",
    "from_openai",
    "render",
    "to_openai",
    "trim_history",
]
