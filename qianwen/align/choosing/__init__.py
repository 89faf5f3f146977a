"""Choosing the most useful rows of a file of dialogues (InsTag; Lu et al., 2023). Read in this order:

tags.py        what each dialogue is about, as tags that a model writes
clusters.py    the same without tags: clusters of embeddings
selection.py   rows by complexity and diversity, until a budget is full
checks.py      automatic checks of answers: empty, refused, repeated, invalid arguments
parts.py       the texts of a row that a person reads and edits: turns, steps of ReAct, two answers
labels.py      the marks of a person, saved after every action; exports
"""
