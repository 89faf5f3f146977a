"""Isolation of programs that a model wrote. It knows nothing about models, tasks or agents.

Read in this order:

    limits.py          how much a program may use, and how it is measured
    process.py         `Sandbox.run_python`: a program in, an `Outcome` out
    isolation.py       the three back-ends, and why each that does not work is refused
    self_check.py      what a back-end must show on this machine before it runs anything
    visible.py         the files that a program sees
    bubblewrap.py  namespaces.py  landlock.py  seccomp.py    what keeps it inside
    privileges.py      users and capabilities
    launcher.py        runs inside: enters, gives up its rights, starts the program
    supervisor.py      watches the program, and ends everything that it started
    system_calls.py    the kernel's interface

Not here: what a program's output means (`eval/`), conversations (`agents/`).
"""
