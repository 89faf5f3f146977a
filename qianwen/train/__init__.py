"""One loop for every stage with a loss; pretraining is its plainest use (Qwen report, section 2.4).

Reading order: `loop.py` (one page: the whole of training), `schedule.py` and `optim.py` (what a step uses), `state.py`
and `checkpoint.py` (why a killed run continues bit for bit), `hooks.py` (what is watched), `job.py` (the life of a
run: lock, folder, signals), `parallel.py` (many processes), `pretrain.py` (all of it joined), `proxy_model.py` and
`ablation.py` (small runs over mixtures). Nothing here knows evaluation or chat: functions are handed in.
"""
