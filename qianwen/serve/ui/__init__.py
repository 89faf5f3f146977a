"""The pages: chat with the models of a server, and watch the runs of its machine.

Gradio draws them, on the same application, behind the same door. Read in this order:

    text.py           what a model wrote → Markdown in which nothing can act
    conversation.py   one question: checked, admitted, answered and kept exactly as a request over HTTP is
    chat.py           the chat page
    curve.py runs.py  curves and tables of run folders, and the runs page
    login.py          a key typed once, kept in a cookie that scripts cannot read
    shell.py          what surrounds Gradio: few routes, a content security policy, our style

Only `chat.py`, `runs.py` and `shell.py` know Gradio. Not here: what a question costs and who may ask it.
"""
