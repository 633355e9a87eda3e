"""In-context reranking against the oracle, through the cached path."""

from __future__ import annotations

import json

import numpy as np
import pytest
from tests.lm.lm_helpers import group

from rerank_lm.judges.icr import Icr, calibrated


@pytest.mark.shared_data
def test_scores_and_order_equal_the_uncached_oracle(smol, shared_data):
    worst = 0.0
    for case in json.loads(shared_data("text/oracle/icr_smollm2.json").read_text())["cases"]:
        judge = Icr(smol, reverse=False)
        before = smol.forwards
        [scores] = judge.score_groups([group(case["query"], *case["docs"])])
        assert smol.forwards == before + 3  # the shared beginning, the query's suffix, the blank query's suffix
        worst = max(worst, float(np.abs(scores - case["icr_score"]).max()))
        assert np.argsort(-scores).tolist() == np.argsort(-np.array(case["icr_score"])).tolist()
        raw = Icr(smol, reverse=False, calibrate=False).score_groups([group(case["query"], *case["docs"])])[0]
        worst = max(worst, float(np.abs(raw - case["score_query"]).max()))
    print(f"worst difference {worst:.1e}")
    assert worst < 1e-4


def test_scores_follow_their_candidates_through_the_reversal(smol):
    question = group("how long does a flea live", "Cats sleep a lot.", "A flea lives for about a year.", "Rome is old.")
    order = Icr(smol).order([question])[0]
    assert sorted(order.permutation) == [0, 1, 2]
    assert list(order.permutation) == np.argsort(-np.array(order.scores), kind="stable").tolist()
    assert order.permutation[0] == 1


def test_only_abnormally_negative_tokens_are_dropped():
    gap = np.array([1.0] * 20 + [-30.0])
    assert calibrated(gap, np.zeros(21)) == pytest.approx(20.0)
    high = np.array([1.0] * 20 + [30.0])
    assert calibrated(high, np.zeros(21)) == pytest.approx(50.0)


def test_nothing_to_rank(smol):
    judge = Icr(smol)
    assert judge.score_groups([group("q")])[0].shape == (0,)
    assert judge.cost.calls == 0


@pytest.mark.slow
def test_memory_stays_under_the_bar(tmp_path):
    """Peak extra memory for 100 documents of 60 tokens is below 1.5 GB; here 40 of them below two fifths of that.

    All hundred: ``benchmarks/judges_speed.py --icr``.
    """
    import subprocess
    import sys

    script = tmp_path / "peak.py"
    script.write_text(
        "import resource, torch; torch.set_num_threads(1)\n"
        "from rerank_core.strategies import Group, Item\n"
        "from rerank_lm.backends.local import LocalBackEnd\n"
        "from rerank_lm.judges.icr import Icr\n"
        "b = LocalBackEnd('smollm2-135m-instruct'); judge = Icr(b)\n"
        "judge.score_groups([Group('q', (Item('a b c'), Item('d')))])\n"
        "start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "text = 'the quick brown fox jumps over a lazy dog and ' * 6\n"
        "judge.score_groups([Group('how fast', tuple(Item(text) for _ in range(40)))])\n"
        "print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - start) / 1e6, judge.cost.prompt_tokens)\n"
    )
    out = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=540, check=True)
    extra, tokens = map(float, out.stdout.split()[-2:])
    print(f"extra {extra:.2f} GB for {tokens:.0f} tokens")
    assert tokens > 2400
    assert extra < 0.6
