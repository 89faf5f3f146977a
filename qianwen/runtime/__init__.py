"""What every chapter stands on. It knows nothing about language models.

Reading order: `errors.py` and `language.py` (how we speak to the user), `files.py` (how anything reaches the disk),
`device.py` and `distributed.py` (what computes), `log.py` (numbers while they happen), `page.py` (numbers afterwards),
`runs.py` (the runs on this disk).
"""
