"""An agent with tools of your own: its steps, a permission, and a run that another process goes on with.

Without a model a script replies in its place, so that every step is shown anywhere: python examples/tools.py [MODEL]
"""

import json
import sys
import tempfile

from qianwen import LLM
from qianwen.agents.agent import Agent
from qianwen.agents.calls import Ask
from qianwen.agents.journal import Journal
from qianwen.agents.step import Answer, Call, End, Result, Thought
from qianwen.agents.tools.functions import function_tool
from qianwen.chat.messages import ToolCall
from qianwen.chat.model import Delta

STOCK = {"desk lamp": 52, "monitor": 3}


def get_stock(product: str) -> int:
    """How many pieces of a product are in stock.

    Args:
        product: name of the product
    """
    return STOCK[product]


def order(product: str, pieces: int) -> str:
    """Order more pieces of a product.

    Args:
        product: name of the product
        pieces: how many
    """
    STOCK[product] += pieces
    return f"ordered {pieces}"


class Script:
    """A chat model that replies with fixed calls and an answer, by the number of results so far."""

    REPLIES = (("get_stock", {"product": "monitor"}), ("order", {"product": "monitor", "pieces": 7}))

    def chat(self, messages, functions=(), **_):
        done = sum(message.role == "tool" for message in messages)
        if done < len(self.REPLIES):
            name, arguments = self.REPLIES[done]
            yield Delta(tool_calls=(ToolCall(name, json.dumps(arguments)),), finish_reason="tool_calls")
        else:
            yield Delta(text="There were 3 monitors, so I ordered 7.", finish_reason="stop")


model = LLM.load(sys.argv[1]) if len(sys.argv) > 1 else Script()
# The type hints and the docstring tell the model how to call a function; its effect tells the policy what to ask.
tools = [function_tool(get_stock, effect="reads", is_trusted=True), function_tool(order, effect="changes")]

with tempfile.TemporaryDirectory() as folder:
    journal = Journal(folder)
    agent = Agent(model, tools, journal=journal)
    run = journal.create_run("shop")
    for event in agent.run("Make sure that we have ten monitors.", run):
        match event:
            case Thought(text) | Answer(text):
                print(text)
            case Call(call):
                print(f"call    {call.name} {call.arguments}")
            case Result(_, name, observation, status):
                print(f"result  {name}: {observation.text} ({status})")
            case Ask(key, call, reason):
                print(f"asked   {reason}")
    # The run waits for the user. The question is in the journal, so the answer may come days later, from any process.
    waiting = journal.calls(run, "asked")
    for logged in waiting:
        journal.answer(logged.key, True)
    for event in agent.resume(run):
        if isinstance(event, Result | Answer | End):
            print(event)
    print(STOCK)
