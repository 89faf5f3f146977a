"""The web pages: chat with the models of a server, and watch the training runs of its machine.

Gradio renders them in the same application, behind the same access control. Read in this order:

    text.py           text of users and models → safe Markdown
    turns.py          the messages of a saved conversation, and how an answer ended
    sides.py          one answer, or the answers of two compared models, while they grow
    conversation.py   one question: validated, admitted and answered like a request over HTTP, and saved
    attachments.py    attached files become text; pdf.py reads PDF in a process with limits
    export.py         a conversation to download, and the read-only page of a shared one
    bubbles.py        messages in the form of Gradio's chat component
    panel.py chat.py  the settings beside a conversation; the chat page
    curve.py runs.py  SVG curves; the runs page
    tune.py           the fine-tuning page (`serve/finetunes.py` does the work)
    login.py          the login page, which stores an API key in a cookie that scripts cannot read
    label.py          the page of `qianwen data label`, on its own; label_page.py writes its HTML
    shell.py          a wrapper around Gradio: allowed routes, content security policy, style

Only `panel.py`, `chat.py`, `runs.py`, `tune.py` and `shell.py` import Gradio. Not here: limits and access control
(`admission.py`, `gate.py`).
"""
