"""From texts to the tokens a model trains on (Qwen report, section 2.1).

Read in this order:

    documents/      files of any kind → documents: sources, readers, extraction, language, personal data
    curate/         which documents are worth training on: rules, duplicates, benchmark texts; `curation.py` joins them
    filters/        the ensemble of models that judges documents
    tokens/         documents → token files and training sequences, mixtures of domains, and the way back
    text_arrays.py  a batch of texts as arrays         arrow_columns.py  columns of Parquet files
    worker_pool.py  work spread over cores or a Ray cluster: the only file that knows Daft

Nothing here knows a model; tokenizers and scorers are handed in.
"""
