"""What every chapter stands on. It knows nothing about language models.

Reading order: `errors.py` and `language.py` (how we speak to the user), `atomic.py` and `files.py` (how anything reaches the disk),
`wheels.py` (data that ships in packages), `device.py` and `distributed.py` (what computes), `log.py` (numbers while they happen), `page.py` (numbers afterwards),
`runs.py` (the runs on this disk).
"""
