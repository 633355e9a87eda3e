"""Training throughput and peak memory beside sentence-transformers' CrossEncoderTrainer: same model, lists and loss.

    python benchmarks/training_speed.py ours TREC_FOLDER
    python benchmarks/training_speed.py peer TREC_FOLDER

One process each, so that the peaks are each one's own. Both take RankNet steps of two lists of 12 passages in fp32 with
AdamW at one thread; the peer's mini-batch is the 8 pairs of a forward that ours uses. CPU seconds of the steps only.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path

from rerank_core.domain import load
from rerank_lm.models import resolve_model
from rerank_lm.training import Recipe
from rerank_lm.training.data import Labelled, Lists, load_lists, sampled
from rerank_lm.training.trainer import train


def ours(recipe: Recipe, lists: list[Labelled], out: Path) -> float:
    started: list[float] = []

    def say(line: str) -> None:
        if line.startswith("step 1/"):
            started.append(time.process_time())
        if line.startswith(f"step {recipe.train.max_steps}/"):
            started.append(time.process_time())

    train(recipe, out, lists=Lists(tuple(lists), (), 0, "", "speed"), say=say)
    return started[1] - started[0]


def peer(recipe: Recipe, lists: list[Labelled], out: Path) -> float:
    from datasets import Dataset
    from sentence_transformers.cross_encoder import CrossEncoder, CrossEncoderTrainer, CrossEncoderTrainingArguments
    from sentence_transformers.cross_encoder.losses import RankNetLoss
    from transformers import TrainerCallback

    times: list[float] = []

    class Watch(TrainerCallback):
        def on_step_end(self, args, state, control, **_):  # type: ignore[no-untyped-def]
            times.append(time.process_time())

    model = CrossEncoder(str(resolve_model(recipe.model).folder()), device="cpu", num_labels=1, max_length=512)
    rows = Dataset.from_dict(
        {
            "query": [str(x.question.query) for x in lists],
            "docs": [[str(i.content) for i in x.question.items] for x in lists],
            "labels": [list(x.gains) for x in lists],
        }
    )
    arguments = CrossEncoderTrainingArguments(
        output_dir=str(out), per_device_train_batch_size=recipe.train.batch, max_steps=recipe.train.max_steps or 1,
        learning_rate=recipe.train.learning_rate, report_to=[], save_strategy="no", disable_tqdm=True, use_cpu=True,
    )  # fmt: skip
    CrossEncoderTrainer(
        model=model, args=arguments, train_dataset=rows, loss=RankNetLoss(model, mini_batch_size=8), callbacks=[Watch()]
    ).train()
    return times[-1] - times[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("who", choices=["ours", "peer"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=6)
    args = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    recipe = Recipe(
        name="speed", kind="cross-encoder", model="ms-marco-minilm-l12",
        data={"folder": str(args.folder), "depth": 30, "list_size": 12, "held_out": 0.0, "words": 120},
        train={"batch": 2, "max_steps": args.steps, "learning_rate": 2e-5, "save_every": 1000, "threads": 1},
    )  # fmt: skip
    assert load("passages").load is not None
    lists = [sampled(x, 12, [0, i]) for i, x in enumerate(load_lists(recipe.data, 0).train)][: 2 * args.steps]
    with tempfile.TemporaryDirectory() as out:
        seconds = {"ours": ours, "peer": peer}[args.who](recipe, lists, Path(out))
    pairs = 24 * (args.steps - 1)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"{args.who}: {pairs / seconds:.2f} pairs/CPU-s, peak {peak:.2f} GB")


if __name__ == "__main__":
    main()
