"""How safe a chat model is: prompts that are never trained on, attacks, and the red-team task that crosses them.

    prompts.py        our own prompts, English and Chinese: harmful ones and harmless look-alikes, by category
    attacks.py        wrappings of a prompt: role play, encodings, split requests, pressure over several turns
    subject.py        whether a reply is about the subject of a request
    red_team.py       a task: every chosen prompt under every chosen attack
    red_team_page.py  its page: compliance by category and attack, and the transcripts behind it

The tasks for published sets are in `eval/tasks/safety.py`. A verdict says whether a reply refuses
(`chat/refusals.py`); whether what it says is really harmful, only a reader can judge.
"""
