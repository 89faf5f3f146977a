"""Many requests, one cache: the generator of everything here that generates (nouns after vLLM).

Read in this order:

    sampling_params.py         what a request may ask for
    sequence.py       one answer under way
    block_manager.py  who owns which block of the paged cache, and who shares
    scheduler.py      which tokens run in the next step
    model_runner.py   the network over them
    sampling.py       scores → tokens
    detokenize.py     tokens → text, while it streams
    llm_engine.py     `add_request`, `step`, `abort`
    chat_run.py       a conversation → a prompt, parameters, and deltas back; of `LLM.chat` and of the server
    llm.py            `LLM.generate`, `stream`, `chat`
    speculate.py  constrain.py  scoring.py     guesses that save steps; grammars; log-likelihoods and embeddings

The engine takes a model object, not a path, so reinforcement learning samples from the very weights it trains. It does
not know HTTP, files or where weights come from.
"""
