"""From texts to the tokens a model trains on (Qwen report, section 2.1).

Read in this order:

    documents/      files of any kind → documents: readers, extraction, language, personal data, named sources
    curate/         which documents are worth training on: rules, duplicates, benchmark texts; `curation.py` joins them
    filters/        the ensemble of models that judges documents
    tokens/         documents → token files and training sequences, mixtures of domains, and the way back
    text_arrays.py  a batch of texts as arrays         arrow_columns.py  columns of Parquet files
    worker_pool.py  work spread over cores or a Ray cluster
    file_listing.py files here and in buckets          frames.py         joins of tables larger than memory

Only `worker_pool.py`, `file_listing.py` and `frames.py` know Daft.

Nothing here knows a model; tokenizers and scorers are handed in.
"""

import os

os.environ.setdefault("DO_NOT_TRACK", "1")  # before Daft is imported: it would report its use
