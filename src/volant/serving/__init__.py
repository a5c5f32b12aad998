"""A server around the engines: a library over engines and store, no stage and no framework of its own.

What enters: a model (by alias, digest or path), keys and limits. What leaves: an OpenAI-compatible
HTTP service that follows its alias, records requests and feedback with consent, and measures itself.

| file            | the one thing that it does                                             |
|-----------------|------------------------------------------------------------------------|
| `limits.py`     | what a request may ask for: bounds, and the bodies as pydantic models  |
| `auth.py`       | who may come in: Host, Origin, keys, body size, before anything parses |
| `shapes.py`     | answers, stream events and errors as OpenAI's clients expect them      |
| `engine.py`     | a bounded queue and one thread that runs batches on a session          |
| `service.py`    | which model is served: follows an alias and swaps between batches      |
| `exchange.py`   | one request on its way: who asks, its job, what is counted and kept    |
| `routes.py`     | handler kinds (`chat`, `completion`) that a modality's routes name     |
| `content.py`    | the one handler of every `Route`: content other than text              |
| `metering.py`   | writes requests into the records, behind the answers                   |
| `feedback.py`   | ratings and corrections to a request                                   |
| `metrics.py`    | Prometheus figures, and their history for the records                  |
| `connection.py` | closes connections that dawdle over a request's head                   |
| `app.py`        | puts them together as one FastAPI application                          |
| `run.py`        | a process: port, readiness, SIGTERM, live state                        |
| `process.py`    | how it runs: address, engine, threads, who may come in                 |
| `arguments.py`  | its command line, parsed and written                                   |
| `background.py` | processes that go on without the terminal: start, find, stop           |
| `smoke.py`      | the server's own client: ask every route once, measure the latency     |
"""
