"""The demo: all stages of training a chat model, small enough for this machine, with a report (`qianwen demo`).

text.py        training text and test questions
stages.py      the stages in order; each can be resumed
findings.py    results of each stage, read from the run's folder
report.py      the results on the console and as one page
"""
