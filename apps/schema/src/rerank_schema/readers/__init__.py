"""Reading tables from wherever they are: files, folders, databases, and descriptions without tables."""

from rerank_schema.readers.limits import Limits
from rerank_schema.readers.source import read_schema

__all__ = ["Limits", "read_schema"]
