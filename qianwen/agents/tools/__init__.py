"""Tools that come with the package, by the names that AGENT.json uses, and tools from functions and schemas.

    functions.py    a typed Python function → a tool
    calculator.py   exact arithmetic (exact_functions.py)      clock.py    the time, zones, dates
    files.py        the files of the run (documents.py, document_reader.py)
    web_fetch.py    pages of the public internet               openapi.py  the operations of a web service

What a tool may do is decided by `policy.py`, not by the tool.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from qianwen.agents.code_interpreter import code_interpreter
from qianwen.agents.tool import Tool
from qianwen.agents.tools.calculator import calculator
from qianwen.agents.tools.clock import clock
from qianwen.agents.tools.files import files
from qianwen.agents.tools.openapi import openapi
from qianwen.agents.tools.web_fetch import web_fetch

# Each makes one or more tools; its keyword arguments are the options of AGENT.json.
TOOLS: Mapping[str, Callable[..., Tool | Sequence[Tool]]] = {
    "calculator": calculator,
    "clock": clock,
    "code_interpreter": code_interpreter,
    "files": files,
    "openapi": openapi,
    "web_fetch": web_fetch,
}
