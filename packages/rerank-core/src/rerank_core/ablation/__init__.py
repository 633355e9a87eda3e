"""Runs a suite: every reranker on every domain's data, resumable cell by cell, failures as cells with a reason.

A cell is keyed by the content of its input, the code that makes it and its parameters; a finished cell is never run
again. Results lie in the output folder: ``cells/KEY.json``, ``runs/KEY.trec``, ``results.csv`` and, where pyarrow is
installed, ``results.parquet``.
"""
