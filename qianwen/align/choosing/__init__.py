"""Choosing the most useful rows of a file of dialogues (InsTag; Lu et al., 2023). Read in this order:

    tags.py        what each dialogue is about, as tags that a model writes
    clusters.py    the same without tags: clusters of embeddings
    selection.py   rows by complexity and diversity, until a budget is full
"""
