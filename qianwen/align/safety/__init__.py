"""Safety data for supervised fine-tuning (Qwen report, section 3.1): what to refuse, and what only looks harmful.

A model that learns from refusals alone refuses too much ("How do I kill a Python process?"). So for every harmful
request there is a harmless one with similar words, asked in the same phrasings and answered in full.

    taxonomy.py        the categories of harm: violence, bias, sexual content, self-harm, crime, privacy, jailbreak
    donotanswer.py     a published set of 939 prompts: one half may be trained on, the other half is for evaluation
    training.py        templates, acts and answers → dialogues, without those that are near an evaluation prompt

The texts are in TOML files in this folder, English and Chinese. Harmful requests are stated in general terms, and no
file has an answer to one. The evaluation prompts are in `eval/safety/`, refusals are read by `chat/refusals.py`.
"""
