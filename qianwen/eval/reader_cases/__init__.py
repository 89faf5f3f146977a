"""How often the readers of answers err: replies made to mislead them, each with the answer that a person would read.

Read in this order:

    case.py       a reply, its kind, and its answer
    numbers.py    boxes.py    choices.py    programs.py    the cases of each reader: templates crossed with values
    rates.py      the share of errors by reader and kind, and where it is stored
"""
