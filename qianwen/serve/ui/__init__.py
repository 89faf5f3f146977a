"""The web pages: chat with the models of a server, and watch the training runs of its machine.

Gradio renders them in the same application, behind the same access control. Read in this order:

    text.py           text of users and models → safe Markdown
    conversation.py   one question: validated, admitted and answered like a request over HTTP, and saved
    panel.py chat.py  the settings beside a conversation; the chat page
    curve.py runs.py  SVG curves; the runs page
    login.py          the login page, which stores an API key in a cookie that scripts cannot read
    shell.py          a wrapper around Gradio: allowed routes, content security policy, style

Only `panel.py`, `chat.py`, `runs.py` and `shell.py` import Gradio. Not here: limits and access control (`admission.py`,
`gate.py`).
"""
