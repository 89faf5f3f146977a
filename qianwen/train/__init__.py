"""One training loop for all stages; pretraining is its simplest use (Qwen report, section 2.4).

Reading order: `loop.py` (one page: the training loop), `schedule.py` and `optim.py` (learning rate and update),
`state.py` and `checkpoint.py` (resuming with bit-identical results), `hooks.py` (metrics and checkpoints during
training), `job.py` (the life of a run: lock, folder, signals), `parallel.py` (many processes), `pretrain.py` (all parts
together), `proxy_model.py` and `ablation.py` (small runs to compare mixtures). Nothing here depends on evaluation or
chat: such functions are arguments.
"""
