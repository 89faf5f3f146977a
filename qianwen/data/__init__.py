"""From texts to the tokens a model trains on (Qwen report, section 2.1).

Read in this order:

    sources.py     named corpora: where their text comes from, licence, size, hash
    readers.py     a folder of text, Markdown, code, JSON lines or Parquet as documents; what is unreadable, and why
    curate.py      any input to documents worth training on; screen.py, dedup.py and finish.py are its stages:
                   extract.py, language.py, pii.py, rules.py and markup.py, minhash.py (shingler.py: in C++) and
                   clusters.py, decontaminate.py
    scoring.py     where a learned filter joins it;  curate_report.py, card.py  what to read of it
    outline.py     Python source as its signatures and docstrings
    pipeline.py    read → deduplicate → choose → hold out; how a stage resumes
    pack.py        documents as token files, and token files as full, shuffled, resumable sequences; trace.py: and back
    mixed.py       token files of several domains in the proportions of a mixture; mixture.py fits and proposes one
    linear.py      perplexity.py  calibrate.py  scorers.py   filters that read, and their vote

Nothing here knows a model; tokenizers and scorers are handed in.
"""
