"""Self-instruct for tools: a model writes tools, questions and dialogues, and rules reject (Qwen report, section 3.4).

    seed tools → new tools → questions → thought, call, result of a simulated tool, answer

Read in this order:

    prompts.py    what the model is asked, in English and Chinese, and the JSON schemas of its replies
    tools.py      a reply → a tool with a simulator, or the reason why it is rejected
    rules.py      the rules for questions and dialogues, each with a reason
    accepted.py   replies → accepted tools and questions, and which tools are for evaluation
    stages.py     the three stages; every reply is on the disk before it is judged
    outcome.py    accepted and rejected rows, split by tools that training never sees, and the counts
"""
