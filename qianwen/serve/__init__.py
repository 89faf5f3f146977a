"""One process, one engine a model, many clients (OpenAI's API over HTTP).

Read in this order:

    wire.py protocol.py   what a request may say, checked before anything else
    gate.py store.py      who may come in: Host, Origin, keys; what is kept in SQLite
    admission.py          with how much: quotas, context, queue
    bridge.py             the engine on a thread of its own
    chat_routes.py        from a request to an answer, with reply.py for its pieces, exchange.py for the connection and
                          guard.py for a judge of both
    service.py app.py     the models by name; the application, and how it stops
    metrics.py fault.py openapi.py   what it says of itself
    ui/                   pages in the browser

It knows HTTP and the engine. It does not know where weights come from or how an answer is computed.
"""
