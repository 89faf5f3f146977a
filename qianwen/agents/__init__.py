"""Assistants with tools (Qwen report, section 3.4): a model that calls functions until it can answer.

Read in this order:

    tool.py    what a tool is, and what it does to the world
    code_interpreter.py    the tool that runs Python
"""
