"""Language-model methods on the embedded sample, beside voting: EX@1 and EX@3 with intervals.

    python benchmarks/programs_lm.py [QUESTIONS] [MODEL]

The default model ships in a package (135 M parameters, not trained for code): figures show that the methods run, not what they
reach with the models of their papers.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from rerank_programs.domain import domain
from rerank_programs.measures import judge
from rerank_programs.sample import sample

METHODS = ("first", "ngram", "vote", "coder-reviewer", "coder-reviewer, mean", "lever")


def main(questions: int, model: str) -> None:
    with tempfile.TemporaryDirectory() as name:
        data = sample(Path(name) / "databases")
        step = max(1, len(data.requests) // questions)
        requests = data.requests[::step][:questions]
        gold = {r.id: data.gold[r.id] for r in requests}
        for method in METHODS:
            config = {"lm": model} if method.split(",")[0] in ("coder-reviewer", "lever") else {}
            if method.endswith("mean"):
                config["mean"] = True
            start = time.process_time()
            rankings = domain.method(method.split(",")[0], config).rerank(requests)
            spent = time.process_time() - start
            rows = [r.as_dict() for r in judge(gold, rankings, {}, system=method, seed=0)]
            shown = [
                f"{r['measure']} {100 * r['value']:.1f} [{100 * r['ci_low']:.1f}, {100 * r['ci_high']:.1f}]"
                for r in rows
                if r["measure"] in ("EX@1", "EX@3")
            ]
            print(f"{method}\t{len(requests)} questions\t{'; '.join(shown)}\t{spent:.0f} CPU-s", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 54, sys.argv[2] if len(sys.argv) > 2 else "smollm2-135m-instruct")
