"""The code interpreter: Python in a sandbox, with variables that last, files and figures.

Run it alone to see what the tool does, or name a model that writes the code: python examples/code_interpreter.py MODEL
"""

import sys
import tempfile
from pathlib import Path

from qianwen import LLM
from qianwen.agents.agent import Agent
from qianwen.agents.attachments import attach, with_files
from qianwen.agents.code_interpreter import code_interpreter
from qianwen.agents.journal import Journal
from qianwen.agents.step import Answer, Call, Result
from qianwen.agents.tool import CallContext

FIRST = "import pandas as pd\nd = pd.read_csv('rain.csv')\nprint('mean', d.mm.mean())"
SECOND = "d.plot.bar(x='month', y='mm')"  # `d` is still there
THIRD = "open('/etc/passwd').read()"  # nothing of this machine is there

with tempfile.TemporaryDirectory() as name:
    folder = Path(name)
    (folder / "rain.csv").write_text("month,mm\nMay,61\nJune,78\nJuly,95\n")
    tool = code_interpreter()
    try:
        if len(sys.argv) == 1:
            for code in (FIRST, SECOND, THIRD):
                observation = tool.run({"code": code}, CallContext("key", folder, seconds=60))
                print(f">>> {code}\n{observation.text}\n")
            print("files:", sorted(path.name for path in folder.iterdir() if not path.name.startswith(".")))
        else:
            agent = Agent(LLM.load(sys.argv[1]), [tool], journal=Journal(folder / "runs"))
            run = agent.journal.create_run("rain")
            names = attach([folder / "rain.csv"], agent.journal.files(run))
            question = "rain.csv has the columns month and mm. What is the mean of mm? Draw a bar chart of mm by month."
            for event in agent.run(with_files(question, names), run):
                if isinstance(event, Call | Result | Answer):
                    print(event)
    finally:
        tool.close()
