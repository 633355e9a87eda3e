"""Drop-in adapters: any reranker of this project inside LangChain, LlamaIndex, PyTerrier and sentence-transformers.

Each adapter is a module of its own that needs its own extra; importing this package imports none of them.
"""
