"""The inference engine: it runs many requests together over one paged cache (names as in vLLM).

Read in this order:

    sampling_params.py  request.py     the options of the sampler; a prompt and all that its keys and values depend on
    sequence.py       one answer that is being generated
    block_manager.py  which sequences use which blocks of the paged cache
    block_pool.py     the blocks of one kind of layer, and which is reused first
    scheduler.py      which tokens run in the next step
    growth.py         answers whose text becomes too long for its rope state
    kv_cache.py       the type of the cache, and the number of its blocks for each kind of layer
    model_runner.py   runs the network on the scheduled tokens
    sampling.py       scores → tokens
    detokenize.py     tokens → text, while it streams
    text_limits.py  context_size.py    how long a text may be: by its method, and by what fits in memory
    llm_engine.py     `add_request`, `step`, `abort`
    chat_run.py       a conversation → a prompt and parameters; outputs → deltas. For `LLM.chat` and the server
    llm.py            `LLM.generate`, `stream`, `chat`
    speculate.py  constrain.py  scoring.py     speculative decoding; grammars; log-likelihoods and embeddings

The engine takes a model object, not a path, so reinforcement learning samples from the weights that it trains. The
engine does not handle HTTP or the loading of weights.
"""
