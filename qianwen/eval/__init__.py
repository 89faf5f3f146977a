"""What the documents measure, measured (Qwen report, section 3.3 and every table).

Read in this order:

    task.py          the kinds of examples that a task asks, the answers to them, and their scores
    metrics.py       shares of sums, with a bootstrap interval
    likelihood.py    what a text costs; the engine computes it
    data_files.py    the files of a benchmark in their published layouts; hub_data.py downloads them
    runner.py        a task put to a model
    report.py        results as a table, a file, a page
    tasks/           the tasks

Here a number is never without its count and its interval.
"""
