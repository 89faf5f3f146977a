"""Tools that come with the package, and tools from functions and schemas.

`TOOLS` are the names that AGENT.json may use; the keyword arguments of a function here are the options of its tool.
"""

from collections.abc import Callable, Mapping, Sequence

from qianwen.agents.code_interpreter import code_interpreter
from qianwen.agents.tool import Tool
from qianwen.agents.tools.calculator import calculator
from qianwen.agents.tools.clock import clock

TOOLS: Mapping[str, Callable[..., Tool | Sequence[Tool]]] = {
    "calculator": calculator,
    "clock": clock,
    "code_interpreter": code_interpreter,
}
