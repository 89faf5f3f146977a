"""Service data: dialogues in which the assistant calls tools (Qwen report, sections 3.1 and 3.4).

Read in this order:

    tools.toml          25 tools, what their simulators return, questions for them in English and Chinese
    simulated_tools.py  a tool whose results are random but fixed by a seed
    rows.py             the record of a dialogue with calls
    tool_calls.py       one call, parallel calls, a chain of calls, a missing argument, no call
    search.py           web search with numbered results, and answers that cite them; citations.py checks them
    interpreter.py      questions answered by a program that is executed in the sandbox; problems.py has them
    rewriting.py        optionally, a model rewrites question and answer; the facts must stay
    build.py            all of these as one file

A dialogue is a list of messages with `tools`. The format, ReAct or <tool_call>, is chosen when it is rendered, by the
model (`chat/functions.py`): the text of an assistant message with a call is the thought of ReAct.
"""
