"""Chat templates: the conversation that a model saw in training is the one it gets (Qwen report, section 3.1.1).

Read in this order:

    marks.py       content that no template can turn into a control token
    limits.py      the size of what a template makes is checked before it grows
    sandbox.py     Jinja without code, with these limits and one of time
    template.py    a model's template: conversation → spans; which family it is; what it can do
    choose.py      the template of a tokenizer: its own, or one of ours by the tokens for turns in its vocabulary

    chatml.jinja, llama3.jinja, deepseek_r1.jinja     ours, for models that come without; SFT writes the first

Qwen v1 has no template; `chat/chatml.py` writes its turns, and those of chatml.jinja.
"""
