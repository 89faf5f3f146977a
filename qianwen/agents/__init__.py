"""Assistants with tools (Qwen report, section 3.4): a model that calls functions until it can answer.

Read in this order:

    tool.py            what a tool is, and what it does to the world
    step.py            a run as a list of steps, and the conversation that is made from it
    agent.py           the loop: ask the model, make its calls, until it answers
    reply.py           one reply of the model as steps
    calls.py           the calls of one reply: checked, decided, made; arguments.py reads what the model wrote
    policy.py          which calls are made, refused or put to the user
    journal.py         steps, calls and permissions in SQLite, so that a killed agent continues; run.py is one run
    budget.py          what may be spent on a question; observations.py cuts long results
    config.py          AGENT.json; attachments.py copies the user's files into a run
    tools/             calculator, clock, files, web pages, web services, and tools from typed Python functions
    fetch_guard.py     fetch an address that a model chose
    code_interpreter.py    the tool that runs Python

An agent gets a `ChatModel`. This chapter does not import the engine or the server.
"""
