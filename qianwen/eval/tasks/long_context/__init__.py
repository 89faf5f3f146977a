"""Long contexts: can the model use what is in a long text?

needle.py     one fact in a long text, at every depth and length, in English and Chinese
ruler.py      several facts, chains of assignments, common words (`ruler_kinds.py`), and the effective length
leval.py      L-Eval: questions with one right answer about documents of up to 24,000 tokens

haystack.py   the text around the facts: public-domain books
prompts.py    prompts of a given number of tokens
readers.py    numbers, names and words in an answer
leval_readers.py    L-Eval's published rules, one after the other
"""
