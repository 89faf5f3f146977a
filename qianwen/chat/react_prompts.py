"""The ReAct prompts: the list of tools, the description of the format, and where the result of a tool is written.

    react               Qwen v1's chat models were trained on it (examples/react_demo.py, openai_api.py): "APIs"; the
                        assistant's turn goes on after the result
    react_tools         examples/react_prompt.md: "tools", and every line ends in a sentence about the arguments; call
                        and result are appended to the user's turn, and a new reply begins
    react_langchain     the notebook with LangChain's tools: the same, without the line end between question and reply
    react_qwen_agent    Qwen-Agent's ReActChat: the user's turn ends in "Thought: "

Solved examples, if there are any, are between the description of the format and the question, as in the ReAct paper.
The prompts are word for word those that were published.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from qianwen.chat.messages import ArgsFormat, FunctionSpec

INSTRUCTION = """Answer the following questions as best you can. You have access to the following {kind}:

{tools_text}

Use the following format:

Question: the input question you must answer
Thought: you should always think about what to do
Action: the action to take, should be one of [{tools_name_text}]
Action Input: the input to the action
Observation: the result of the action
... (this Thought/Action/Action Input/Observation can be repeated zero or more times)
Thought: I now know the final answer
Final Answer: the final answer to the original input question

Begin!"""
TOOL_LINE = (
    "{name}: Call this tool to interact with the {human} API. What is the {human} API useful for? "
    "{description} Parameters: {parameters}"
)
ARGS_SENTENCE = {
    None: "",
    "json": " Format the arguments as a JSON object.",
    "code": " Enclose the code within triple backticks (`) at the beginning and end of the code.",
}


@dataclass(frozen=True)
class ReActStyle:
    """What differs between the prompts."""

    kind: str = "tools"  # what the first line calls the tools
    between_names: str = ","
    args_format: ArgsFormat | None = None  # of a function without one
    in_question: bool = True  # calls and results are appended to the user's turn, not to the assistant's
    before_reply: str = "\n"  # between the question and the first reply that is appended to it
    prompt_end: str = ""  # of the user's turn
    code_on_new_line: bool = False


REACT_STYLES: Mapping[str, ReActStyle] = MappingProxyType(
    {
        "react": ReActStyle("APIs", between_names=", ", in_question=False),
        "react_tools": ReActStyle(args_format="json"),
        "react_langchain": ReActStyle(args_format="json", before_reply=""),
        "react_qwen_agent": ReActStyle(prompt_end="\nThought: ", code_on_new_line=True),
    }
)


def react_instruction(functions: Sequence[FunctionSpec], style: str = "react") -> str:
    """The list of tools and the description of the format."""
    chosen = REACT_STYLES[style]
    lines = [
        TOOL_LINE.format(
            name=function.name,
            human=function.name_for_human or function.name,
            description=function.description,
            parameters=json.dumps(function.parameters, ensure_ascii=False),
        )
        + ARGS_SENTENCE[function.args_format or chosen.args_format]
        for function in functions
    ]
    names = chosen.between_names.join(function.name for function in functions)
    return INSTRUCTION.format(kind=chosen.kind, tools_text="\n\n".join(lines), tools_name_text=names)


def react_prompt(
    functions: Sequence[FunctionSpec], query: str, style: str = "react", examples: Sequence[str] = ()
) -> str:
    """The user's turn for `query`: the instruction, the solved examples, the question."""
    parts = [react_instruction(functions, style), *examples, f"Question: {query}{REACT_STYLES[style].prompt_end}"]
    return "\n\n".join(parts)
