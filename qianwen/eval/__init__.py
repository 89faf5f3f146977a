"""What the documents measure, measured (Qwen report, section 3.3 and every table).

Read in this order:

    task.py          the kinds of examples that a task asks, the answers to them, and their scores
    metrics.py       shares of sums, with a bootstrap interval
    likelihood.py    what a text costs; the engine computes it
    data_files.py    the files of a benchmark in their published layouts; hub_data.py downloads them
    ask.py           one example put to a model
    runner.py        all examples of a task, in many threads
    evaluation.py    tasks put to a model, in a folder that a later run goes on in
    results.py       that folder; rows.py: one example with its answer in it
    provenance.py    what a number is of: model, weights, template, versions, machine
    remote.py        a model behind a URL
    console.py       the metrics as a table
    grids.py         results over two facts of the examples, as a table and as a heat map
    report.py        results as a file and a page
    tasks/           the tasks
    safety/          prompts, attacks, and the red-team task
    reader_cases/    how often the readers of answers err

Here a number is never without its count and its interval.
"""
