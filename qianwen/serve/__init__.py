"""The HTTP server with OpenAI's API: one process, one engine per model, many clients.

Read in this order:

    wire.py protocol.py   the request format and its validation, before anything else
    gate.py store.py      access control by Host, Origin and key; keys, usage and conversations in SQLite
    admission.py          limits: rate, quota, context length, queue
    bridge.py             the engine, on its own thread
    chat_routes.py        from a request to an answer; reply.py builds the pieces, exchange.py handles the connection,
                          guard.py filters prompts and answers
    service.py app.py     the models by name; the application and its shutdown
    prometheus.py fault.py openapi.py   metrics, error log, API description
    ui/                   the web pages

This chapter handles HTTP and calls the engine. It does not load weights or compute answers.
"""
