"""JSON <-> what a domain ranks."""

from __future__ import annotations

from typing import Any, Protocol, TypeVar

Q = TypeVar("Q")
C = TypeVar("C")


class Codec(Protocol[Q, C]):
    """JSON <-> query and content, for JSONL files, the server and cache keys. Values must be JSON-able."""

    def encode_query(self, query: Q) -> Any: ...

    def decode_query(self, value: Any) -> Q: ...

    def encode_content(self, content: C) -> Any: ...

    def decode_content(self, value: Any) -> C: ...


class PlainCodec:
    """Codec of domains whose queries and contents are JSON values already (text, numbers, dicts of them)."""

    def encode_query(self, query: Any) -> Any:
        """Return the query itself."""
        return query

    def decode_query(self, value: Any) -> Any:
        """Return the value itself."""
        return value

    def encode_content(self, content: Any) -> Any:
        """Return the content itself."""
        return content

    def decode_content(self, value: Any) -> Any:
        """Return the value itself."""
        return value
