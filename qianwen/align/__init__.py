"""From a language model to an assistant (Qwen report, section 3).

Read in this order:

    corpus_questions.py       questions and answers that a corpus holds without saying so
    dialogues.py    files of dialogues, and dialogues as packed training sequences
    sft.py          the training loop on them, learning only what the assistant says
    equations.py    the calculations in a piece of reasoning
    rejection.py    a model's own right solutions of problems, as mathematics to train on

Not here yet: preferences, rewards and PPO.
"""
