"""Rerank generated SQL, Python/pandas and Power Query M programs by what they do."""
