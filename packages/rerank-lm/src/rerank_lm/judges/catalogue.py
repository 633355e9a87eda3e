"""Every judge in one table: where it comes from, what it needs, where it works, what stands behind it.

Importing this loads neither torch nor transformers.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

TEXT = "every domain with a text rendering"
ANY = "every domain with a rendering"
PICTURES = "domains that render pictures"


@dataclass(frozen=True)
class Entry:
    """One line of the catalogue.

    Parameters
    ----------
    module, kind
        Where the judge's class is, and how strategies ask it (``score``, ``prefer``, ``choose``, ``order``,
        ``score_groups``).
    capability
        What the back end must be able to do.
    endpoint
        Whether an OpenAI-compatible endpoint can give that.
    test
        The test, and the oracle or tiny model in it.
    """

    name: str
    title: str
    source: str
    module: str
    kind: str
    strategy: str
    capability: str
    endpoint: bool
    domains: str
    test: str
    calls: str


_J = "rerank_lm.judges"
ENTRIES: tuple[Entry, ...] = (
    Entry(
        "yes-no",
        "log-odds of Yes against No",
        "HELM 2022; Qin et al. NAACL 2024; GMR 2025",
        f"{_J}.pointwise:YesNo",
        "score",
        "pointwise",
        "next-token",
        True,
        TEXT,
        "test_pointwise.py: equals sentence-transformers LogitScore on SmolLM2",
        "n",
    ),
    Entry(
        "binary",
        "logit of 1 minus logit of 0",
        "ProRank 2025 (mxbai-rerank-v2)",
        f"{_J}.pointwise:BinaryLogit",
        "score",
        "pointwise",
        "next-token",
        True,
        TEXT,
        "test_pointwise.py: logits read one by one on SmolLM2",
        "n",
    ),
    Entry(
        "graded",
        "expected grade over grade tokens",
        "ERank 2025",
        f"{_J}.pointwise:Graded",
        "score",
        "pointwise",
        "next-token",
        True,
        TEXT,
        "test_pointwise.py: expectation by hand on SmolLM2",
        "n",
    ),
    Entry(
        "query-likelihood",
        "likelihood of the query after the candidate",
        "UPR, Sachan et al. EMNLP 2022",
        f"{_J}.pointwise:QueryLikelihood",
        "score",
        "pointwise",
        "log-probs",
        True,
        TEXT,
        "test_pointwise.py: equals the model's own loss on SmolLM2",
        "n",
    ),
    Entry(
        "pairwise",
        "A or B from label logits",
        "PRP, Qin et al. NAACL 2024",
        f"{_J}.comparing:Pairwise",
        "prefer",
        "heap sort",
        "next-token",
        True,
        TEXT,
        "test_list_judges.py: SmolLM2, and perfect comparator",
        "2n + 2k log2 n",
    ),
    Entry(
        "setwise",
        "the best of a few from label logits",
        "Setwise, Zhuang et al. SIGIR 2024",
        f"{_J}.comparing:Setwise",
        "choose",
        "setwise heap sort",
        "next-token",
        True,
        TEXT,
        "test_list_judges.py: SmolLM2; heap sort with perfect comparator in the core's tests",
        "n/c + k log_c n",
    ),
    Entry(
        "rank-r1",
        "the best of a few after reasoning",
        "Rank-R1 2025",
        f"{_J}.comparing:Setwise",
        "choose",
        "setwise heap sort",
        "generate",
        True,
        TEXT,
        "test_list_judges.py: scripted answers",
        "n/c + k log_c n",
    ),
    Entry(
        "first",
        "label logits at the answer's first token",
        "FIRST, Reddy et al. EMNLP 2024; Early-FIRST",
        f"{_J}.single_token:First",
        "order",
        "sliding window",
        "next-token",
        True,
        TEXT,
        "test_backends.py: oracle first_letter_logits_smollm2.json",
        "9 for n = 100",
    ),
    Entry(
        "letters",
        "probability of each candidate's letter",
        "KALM4Rec 2025",
        f"{_J}.single_token:Letters",
        "order",
        "sliding window",
        "next-token",
        True,
        TEXT,
        "test_list_judges.py: SmolLM2",
        "1 a window",
    ),
    Entry(
        "permutation",
        "a written ranking",
        "RankGPT, Sun et al. EMNLP 2023; RankZephyr",
        f"{_J}.writing:Permutation",
        "order",
        "sliding window",
        "generate",
        True,
        TEXT,
        "test_parsing.py: oracle permutation_parsing.json",
        "9 for n = 100",
    ),
    Entry(
        "reasonrank",
        "a written ranking after reasoning",
        "ReasonRank 2025",
        f"{_J}.writing:Permutation",
        "order",
        "sliding window",
        "generate",
        True,
        TEXT,
        "test_rewards.py: oracle reasonrank_reward.json",
        "9 for n = 100",
    ),
    Entry(
        "dear",
        "reasoning over candidates handed over in turns",
        "DeAR stage 2, 2025",
        f"{_J}.writing:Permutation",
        "order",
        "sliding window",
        "generate",
        True,
        TEXT,
        "test_list_judges.py: scripted answers; losses: oracle ranking_losses.json",
        "2 for n = 30",
    ),
    Entry(
        "insertrank",
        "a written ranking with first-stage scores shown",
        "InsertRank 2025",
        f"{_J}.writing:InsertRank",
        "order",
        "sliding window",
        "generate",
        True,
        TEXT,
        "test_list_judges.py: scripted answers",
        "1 (window = n)",
    ),
    Entry(
        "groupwise",
        "a written score for each of a group",
        "GroupRank 2025",
        f"{_J}.writing:Groupwise",
        "score_groups",
        "groupwise",
        "generate",
        True,
        TEXT,
        "test_list_judges.py: scripted answers",
        "n / size",
    ),
    Entry(
        "icr",
        "attention from query to candidate",
        "Chen et al. ICLR 2025",
        f"{_J}.icr:Icr",
        "score_groups",
        "groupwise, all at once",
        "attention",
        False,
        TEXT,
        "test_icr.py: oracle icr_smollm2.json",
        "2 forwards, one of them short",
    ),
    Entry(
        "e2rank",
        "cosine with a query that read the first documents",
        "E2Rank 2025",
        f"{_J}.e2rank:E2Rank",
        "score_groups",
        "groupwise, all at once",
        "embed",
        True,
        TEXT,
        "test_other_judges.py: MiniLM",
        "1 + n embeddings",
    ),
    Entry(
        "mvp",
        "several views of every candidate against shared anchors",
        "MVP 2025",
        f"{_J}.mvp:Mvp",
        "score_groups",
        "groupwise, all at once",
        "trained checkpoint",
        False,
        TEXT,
        "test_other_judges.py: tiny T5: equivariance, orthogonality, overfits",
        "1",
    ),
    Entry(
        "clue",
        "hidden-state change nearer to successes than failures",
        "CLUE 2025",
        f"{_J}.clue:Clue",
        "score",
        "pointwise",
        "hidden-states",
        False,
        TEXT,
        "test_other_judges.py: arrays by hand, SmolLM2",
        "n",
    ),
    Entry(
        "mm-r5",
        "a written ranking of pictures after reasoning",
        "MM-R5 2025",
        f"{_J}.vision:MmR5",
        "order",
        "sliding window",
        "generate + images",
        True,
        PICTURES,
        "test_other_judges.py: tiny Qwen2.5-VL; parser table",
        "1",
    ),
    Entry(
        "gmr",
        "yes/no logits over text and pictures",
        "GMR 2025 (lychee-rerank-mm)",
        f"{_J}.vision:Gmr",
        "score",
        "pointwise",
        "next-token + images",
        False,
        ANY,
        "test_other_judges.py: tiny Qwen2.5-VL",
        "n",
    ),
    Entry(
        "faireval",
        "scores of two answers, evidence first, both orders, k samples",
        "FairEval, Wang et al. ACL 2024",
        f"{_J}.faireval:FairEval",
        "prefer",
        "heap sort",
        "generate",
        True,
        TEXT,
        "test_other_judges.py: oracle faireval.json",
        "2k a pair",
    ),
)

BY_NAME = {e.name: e for e in ENTRIES}


def catalogue() -> list[dict[str, object]]:
    """Return every judge as a dictionary, for ``rerank judges`` and the docs."""
    return [asdict(e) for e in ENTRIES]
