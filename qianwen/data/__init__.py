"""From texts to the tokens a model trains on (Qwen report, section 2.1).

Read in this order:

    documents/      files of any kind → documents: readers, extraction, language, personal data, named sources
    curate/         curation: rules, duplicates, benchmark texts; `curation.py` runs all of it
    filters/        the ensemble of models that scores documents
    tokens/         documents → token files and training sequences, mixtures of domains, and tracing back
    text_arrays.py  a batch of texts as arrays         arrow_columns.py  columns of Parquet files
    worker_pool.py  parallel work on cores or a Ray cluster
    file_listing.py files here and in buckets          frames.py         joins of tables larger than memory

Only `worker_pool.py`, `file_listing.py` and `frames.py` use Daft.

No module here uses a model; tokenizers and scorers are passed as arguments.
"""

import os

os.environ.setdefault("DO_NOT_TRACK", "1")  # before Daft is imported, which would otherwise send usage reports
