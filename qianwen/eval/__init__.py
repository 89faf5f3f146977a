"""What the documents measure, measured (Qwen report, section 3.3 and every table).

Read in this order:

    task.py       what a task asks of a model, and what it makes of the answers
    metrics.py    shares of sums, with a bootstrap interval
    runner.py     a task put to a model
    report.py     results as a table, a file, a page
    tasks/        the tasks

Here a number is never without its count and its interval.
"""
