"""Isolation of programs that a model wrote. It knows nothing about models, tasks or agents.

Read in this order:

    limits.py          how much a program may use, and how it is measured
    process.py         `Sandbox.run_python`: a program in, an `Outcome` out
    ipython.py         `Kernel.run`: a cell of code in, a `CellResult` out; variables last for a conversation
    isolation.py       the three back-ends, and why each that does not work is refused
    self_check.py      what a back-end must show on this machine before it runs anything
    visible.py         the files that a program sees
    running.py  execution.py    a program from outside: start, interrupt, end; read its output
    bubblewrap.py  namespaces.py  landlock.py  seccomp.py    what keeps it inside
    privileges.py      users and capabilities
    launcher.py        runs inside: enters, gives up its rights, starts the program
    supervisor.py      watches the program, and ends everything that it started
    system_calls.py    the kernel's interface
    kernel_program.py  the IPython kernel, inside
    kernel_process.py  channel.py  kernel_messages.py    talking to it from outside, without trust
    cell.py  kernel_files.py  fonts.py    what a cell said, the files that it sees and makes, Chinese in its figures

Not here: what a program's output means (`eval/`), conversations (`agents/`).
"""
