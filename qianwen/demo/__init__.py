"""The miniature run: every stage of the recipe on this machine, its findings and its report (`qianwen demo`).

text.py        what the demo learns from and is asked
stages.py      the stages in order, each resumable
findings.py    what each stage made and learned, read from the run's folder
report.py      the findings on the console and as one page
"""
