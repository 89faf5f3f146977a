"""From a language model to an assistant (Qwen report, section 3).

Read in this order:

    corpus_questions.py     questions and answers derived from a corpus
    records.py, turns.py    one record of a file → a conversation, in all usual forms
    dialogues.py            files of dialogues, and dialogues as packed training sequences
    training_method.py      default settings from the free memory and the data
    sft.py                  the training loop, with a loss over the assistant's text only
    closing_questions.py    whether the trained model ends its answers
    equations.py            the equations of a solution
    rejection.py            a model's own correct solutions as training data
    safety/                 what to refuse, and harmless requests that look like it

Not here yet: preferences, rewards and PPO.
"""
