"""From a language model to an assistant (Qwen report, section 3).

Read in this order:

    corpus_questions.py     questions and answers derived from a corpus
    records.py, turns.py    one record of a file → a conversation, in all usual forms
    dialogues.py            files of dialogues, and dialogues as packed training sequences
    training_files.py       several files in proportions
    abilities.py            what a dialogue teaches
    training_data.py        all of this for a run
    training_method.py      default settings from the free memory and the data
    sft.py                  the training loop, with a loss over the assistant's text only
    closing_questions.py    whether the trained model ends its answers
    equations.py            the equations of a solution
    rejection.py            a model's own correct solutions as training data
    safety/                 what to refuse, and harmless requests that look like it
    service/                generated dialogues with tool calls, searches and programs
    self_instruct/          tools, questions and dialogues that a model writes, and the rules that reject
    system_prompts/         system prompts that are obeyed over six turns; those for evaluation
    choosing/               which rows to train on, for a budget: tags, clusters, diversity
    request_log.py          many requests whose results are on the disk, in order
    plain_answers.py, sentences.py, languages.py, near_duplicates.py    what generated texts are made of and checked by

Not here yet: preferences, rewards and PPO.
"""
