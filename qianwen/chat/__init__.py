"""The formats that training, serving and agents share (Qwen report, sections 3.1 and 3.4).

Read in this order:

    messages.py    what a conversation is: Message, FunctionSpec, ToolCall; to and from OpenAI's dicts
    chatml.py      messages → token ids + loss mask; the only writer of control tokens; the window over a history
    react.py       the ReAct prompt of Qwen v1, and the reader of its Thought / Action / Action Input
    functions.py   both function-calling formats (ReAct, Qwen2.5's <tool_call>) as one incremental reader
    model.py       `ChatModel`, the protocol that agents, judges and tasks speak
    answers.py     the answer in a reply, and whether it is right

This chapter knows tokens and text. It does not know any network, engine or server.
"""

from qianwen.chat.chatml import Rendered, render, trim_history
from qianwen.chat.messages import FunctionSpec, Message, ToolCall, from_openai, to_openai
from qianwen.chat.model import ChatModel, Delta, Usage, collect

__all__ = [
    "ChatModel",
    "Delta",
    "FunctionSpec",
    "Message",
    "Rendered",
    "ToolCall",
    "Usage",
    "collect",
    "from_openai",
    "render",
    "to_openai",
    "trim_history",
]
