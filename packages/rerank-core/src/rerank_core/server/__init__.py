"""``rerank serve``: reranking over HTTP (extra ``rerank-core[serve]``)."""
