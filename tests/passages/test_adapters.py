"""The adapters inside the real packages they are for."""

from __future__ import annotations

import pytest

from rerank_core.errors import InputError, UsageError
from rerank_core.types import Candidate, Dataset, Request

TEXTS = [
    "The median is the middle value of a sorted list.",
    "Bread is baked from flour and yeast.",
    "A car has wheels.",
]
QUERY = "what is bread made of"


def test_langchain_compressor_in_a_retriever() -> None:
    pytest.importorskip("langchain_core")
    from langchain_core.documents import Document

    from rerank_passages.adapters.langchain import RerankCompressor

    documents = [Document(page_content=t, metadata={"n": i}, id=str(i)) for i, t in enumerate(TEXTS)]
    compressor = RerankCompressor(method="bm25", top_n=2)
    found = compressor.compress_documents(documents, QUERY)
    assert found[0].metadata["n"] == 1 and len(found) == 2 and found[0].id == "1"
    assert found[0].metadata["relevance_score"] > found[1].metadata["relevance_score"]
    assert "relevance_score" not in documents[1].metadata  # the documents given are left alone
    assert compressor.compress_documents([], QUERY) == []


def test_llamaindex_postprocessor() -> None:
    pytest.importorskip("llama_index.core")
    from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode

    from rerank_passages.adapters.llamaindex import RerankPostprocessor

    nodes = [NodeWithScore(node=TextNode(text=t, id_=str(i)), score=1.0 - i) for i, t in enumerate(TEXTS)]
    rerank = RerankPostprocessor(method="bm25", top_n=1)
    (best,) = rerank.postprocess_nodes(nodes, QueryBundle(QUERY))
    assert best.node.node_id == "1" and nodes[1].score == 0.0
    assert rerank.postprocess_nodes([], QueryBundle(QUERY)) == []
    with pytest.raises(UsageError, match="needs a query"):
        rerank.postprocess_nodes(nodes)


def test_pyterrier_transformer_composes() -> None:
    pt = pytest.importorskip("pyterrier")
    import pandas as pd

    from rerank_passages.adapters.pyterrier import RerankTransformer

    frame = pd.DataFrame(
        [
            {"qid": q, "query": text, "docno": str(i), "text": t, "score": -float(i), "rank": i}
            for q, text in (("1", QUERY), ("2", "middle value of a list"))
            for i, t in enumerate(TEXTS)
        ]
    )
    pipeline = pt.Transformer.from_df(frame) >> (RerankTransformer("bm25") % 2)
    out = pipeline.transform(frame[["qid", "query"]].drop_duplicates())
    best = out[out["rank"] == 0].set_index("qid")["docno"].to_dict()
    assert best == {"1": "1", "2": "0"} and len(out) == 4
    with pytest.raises(InputError, match="no column 'text'"):
        RerankTransformer("bm25").transform(frame.drop(columns="text"))


def test_sentence_transformers_evaluator() -> None:
    pytest.importorskip("sentence_transformers")
    from rerank_passages.adapters.sentence_transformers import RerankEvaluator

    request = Request("1", QUERY, tuple(Candidate(str(i), t) for i, t in enumerate(TEXTS)))
    evaluator = RerankEvaluator(Dataset([request], {"1": {"1": 1.0}}), name="dev")

    class Overlap:
        def predict(self, pairs, show_progress_bar):  # type: ignore[no-untyped-def]
            return [len(set(q.lower().split()) & set(t.lower().split())) for q, t in pairs]

    values = evaluator(Overlap())
    assert evaluator.primary_metric in values and set(values) == {"dev_nDCG@10", "dev_MRR@10"}
    assert 0 < values["dev_MRR@10"] <= 1
