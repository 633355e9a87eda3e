"""Every recipe learns on a small model, resumes to the same bits, and gives back something that reranks."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from rerank_core.errors import InputError, RerankError, UsageError
from rerank_core.rendering import TextRendering
from rerank_core.types import Candidate, Dataset, Request
from rerank_lm.training import Recipe, load_recipe
from rerank_lm.training.data import Lists, lists_of, rewritten, sampled
from rerank_lm.training.trainer import TrainingError, estimate, train

RECIPES = Path(__file__).resolve().parents[2] / "shared" / "recipes"
TEXT = TextRendering("Rank documentation by how well it fits.", str, lambda c: str(c.content))


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    """First sentences of standard library docstrings as queries, the rest of each docstring as the text to find."""
    import inspect
    import math
    import statistics
    import textwrap

    entries = []
    for module in (math, statistics, textwrap, json, os.path):
        for name, function in inspect.getmembers(module, callable):
            text = " ".join((inspect.getdoc(function) or "").split())
            first, _, rest = text.partition(". ")
            if len(rest) > 30 and not name.startswith("_"):
                entries.append((f"{module.__name__}.{name}", first, rest[:160]))
    entries = entries[:24]
    rng = np.random.default_rng(0)
    requests, gold = [], {}
    for i, (name, query, _) in enumerate(entries):
        others = [j for j in rng.permutation(len(entries)) if j != i][:4]
        shown = rng.permutation([i, *others])
        requests.append(Request(name, query, tuple(Candidate(entries[j][0], entries[j][2]) for j in shown)))
        gold[name] = {name: 1.0}
    return Dataset(requests, gold, name="docstrings")


def _save_tiny(folder: Path, kind: str) -> Path:
    from transformers import (
        AutoTokenizer,
        BertConfig,
        BertForSequenceClassification,
        BertModel,
        LlamaConfig,
        LlamaForCausalLM,
    )

    from rerank_lm.models import resolve_model

    torch.manual_seed(0)
    if kind == "llama":
        tokenizer = AutoTokenizer.from_pretrained(resolve_model("smollm2-135m-instruct").folder())
        model: object = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2,
                num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=2048, bos_token_id=1,
                eos_token_id=2, pad_token_id=2, tie_word_embeddings=True,
            )
        )  # fmt: skip
    else:
        tokenizer = AutoTokenizer.from_pretrained(resolve_model("all-minilm-l6-v2").folder())
        config = BertConfig(
            vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
            intermediate_size=64, num_labels=1,
        )  # fmt: skip
        model = BertForSequenceClassification(config) if kind == "cross" else BertModel(config)
    model.save_pretrained(folder)  # type: ignore[attr-defined]
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("tiny")
    return {kind: _save_tiny(root / kind, kind) for kind in ("cross", "bi", "llama")}


def _recipe(name: str, tiny: dict[str, Path], **train_settings) -> Recipe:
    value = yaml.safe_load((RECIPES / f"{name}.yaml").read_text())
    kind = {"cross-encoder": "cross", "e2rank": "bi"}.get(value["kind"], "llama")
    if value["model"] != "random-t5":
        value["model"] = str(tiny[kind])
    value["data"] = value.get("data", {}) | {"limit": None, "list_size": 4, "words": 16}
    value["data"].pop("teacher", None)
    fast = {"epochs": 20, "max_steps": 18, "learning_rate": 3e-3, "evaluate_every": 100, "save_every": 4, "warmup": 0.0}
    value["train"] = value.get("train", {}) | fast | train_settings
    value["lora"] = {"dropout": 0.1}
    if name in ("grpo", "prorank"):
        value["grpo"] = value["grpo"] | {"steps": 2, "constant_after": 1000}
    return Recipe(**value)


def _lists(recipe: Recipe, dataset: Dataset) -> Lists:
    lists = lists_of(dataset, TEXT, recipe.data, recipe.train.seed)
    if recipe.loss.name in ("dear", "distil", "margin-mse"):
        taught = tuple(type(x)(x.id, x.group, x.question, x.gains, tuple(3 * g for g in x.gains)) for x in lists.train)
        lists = Lists(taught, lists.held, lists.dropped, lists.instruction, lists.name)
    return lists


ALL = ["supervised", "distil", "first", "dear2", "e2rank", "mvp", "prorank", "gmr", "car"]


@pytest.mark.parametrize("name", ALL)
def test_the_loss_falls(name, tiny, dataset, tmp_path):
    settings = {"prorank": {"batch": 4}} | {k: {"batch": 8, "max_steps": 40} for k in ("supervised", "distil", "car")}
    recipe = _recipe(name, tiny, **settings.get(name, {}))
    outcome = train(recipe, tmp_path / "out", lists=_lists(recipe, dataset))
    values = outcome.losses[recipe.grpo.steps :] if name == "prorank" else outcome.losses
    if name == "gmr":  # the surrogate's value means nothing; what falls is the weight, each pair's own error
        rows = (tmp_path / "out" / "metrics.csv").read_text().splitlines()
        column = rows[0].split(",").index("weight_negative")
        values = [float(r.split(",")[column]) for r in rows[1:] if r.split(",")[column]]
    assert np.mean(values[-5:]) < np.mean(values[:5])
    assert outcome.stopped == "all steps done"
    card = (tmp_path / "out" / "README.md").read_text()
    assert "nDCG@10 held out, after" in card and "licence" in card and str(outcome.n_train) in card


@pytest.mark.parametrize("name", [*ALL, "grpo"])
def test_a_resumed_run_is_bit_exact(name, tiny, dataset, tmp_path):
    recipe = _recipe(name, tiny, max_steps=4)
    lists = _lists(recipe, dataset)
    lists = Lists(lists.train, (), lists.dropped, lists.instruction, lists.name)
    train(recipe, tmp_path / "whole", lists=lists)
    interrupted = train(recipe, tmp_path / "parts", lists=lists, stop_after=2)
    assert interrupted.stopped == "interrupted" and not (tmp_path / "parts" / "README.md").exists()
    resumed = train(recipe, tmp_path / "parts", lists=lists, resume=True)
    assert resumed.steps == 4
    a, b = (torch.load(tmp_path / p / "checkpoint.pt", weights_only=True) for p in ("whole", "parts"))
    assert all(torch.equal(a["parameters"][k], b["parameters"][k]) for k in a["parameters"])
    for file in ("model.safetensors", "metrics.csv"):
        if (tmp_path / "whole" / file).exists():
            assert (tmp_path / "whole" / file).read_bytes() == (tmp_path / "parts" / file).read_bytes()


def test_outputs_load_back_and_rerank(tiny, dataset, tmp_path):
    from tests.lm.lm_helpers import group

    from rerank_lm.backends.encoder import EncoderBackEnd
    from rerank_lm.encoders import CrossEncoder
    from rerank_lm.judges.building import build
    from rerank_lm.judges.mvp import Mvp

    for name in [*ALL, "grpo"]:
        recipe = _recipe(name, tiny, max_steps=2)
        train(recipe, tmp_path / name, lists=_lists(recipe, dataset))
    request = dataset.requests[0]
    pairs = [(request.query, c.content) for c in request.candidates]
    for folder in ("supervised", "distil", "car"):
        assert np.isfinite(CrossEncoder.load(str(tmp_path / folder)).score(pairs)).all()
    judges = {"gmr": "yes-no", "first": "first", "dear2": "permutation", "grpo": "binary", "prorank": "binary"}
    for folder, judge in judges.items():
        [ranking] = build(judge, rendering=TEXT, model=str(tmp_path / folder)).rerank([request])
        assert sorted(ranking.ids) == sorted(request.ids) and ranking.cost.calls > 0
    e2rank = build("e2rank", rendering=TEXT, backend=EncoderBackEnd(str(tmp_path / "e2rank")))
    assert sorted(e2rank.rerank([request])[0].ids) == sorted(request.ids)
    assert len(Mvp.load(tmp_path / "mvp").score_groups([group("q", "a", "b")])[0]) == 2


def test_an_adapter_can_be_kept_apart(tiny, dataset, tmp_path):
    recipe = _recipe("gmr", tiny, max_steps=1)
    recipe = recipe.model_copy(update={"lora": recipe.lora.model_copy(update={"output": "adapter"})})
    train(recipe, tmp_path / "a", lists=_lists(recipe, dataset))
    assert (tmp_path / "a" / "adapter_model.safetensors").exists() and not (
        tmp_path / "a" / "model.safetensors"
    ).exists()


def test_lists_are_split_by_group_and_useless_ones_left_out(dataset):
    recipe = Recipe(name="x", kind="cross-encoder", model="m")
    grouped = Dataset(dataset.requests, dataset.gold, {r.id: r.id.split(".")[0] for r in dataset.requests})
    lists = lists_of(grouped, TEXT, recipe.data.model_copy(update={"held_out": 0.5}), 0)
    assert lists.held and not {x.group for x in lists.train} & {x.group for x in lists.held}
    first = dataset.requests[0]
    partly = Dataset(dataset.requests, {**dataset.gold, first.id: {}})
    assert lists_of(partly, TEXT, recipe.data, 0).dropped == 1
    with pytest.raises(InputError, match="nothing to learn"):
        lists_of(Dataset(dataset.requests, {}), TEXT, recipe.data, 0)


def test_samples_keep_a_positive_and_are_the_seeds_own(dataset):
    lists = lists_of(dataset, TEXT, Recipe(name="x", kind="mvp", model="m").data, 0)
    x = lists.train[0]
    a, b = sampled(x, 3, [0, 1]), sampled(x, 3, [0, 1])
    assert a == b and len(a.gains) == 3 and max(a.gains) == 1
    assert {sampled(x, 3, [0, e]).question.items for e in range(20)} != {a.question.items}


def test_car_changes_training_queries_only(dataset):
    recipe = _recipe("car", {"cross": Path("m")})
    lists = lists_of(dataset, TEXT, recipe.data, 0)
    originals = {r.id: r.query for r in dataset.requests}
    assert all(
        x.question.query != originals[x.id] and str(x.question.query).startswith(originals[x.id]) for x in lists.train
    )
    assert all(x.question.query == originals[x.id] for x in lists.held)
    assert rewritten(lists.train[:1], 0)[0].question.query == lists.train[0].question.query


def test_checkpoints_of_others_and_damaged_ones_are_refused(tiny, dataset, tmp_path):
    recipe = _recipe("supervised", tiny, max_steps=2)
    lists = _lists(recipe, dataset)
    train(recipe, tmp_path, lists=lists)
    with pytest.raises(InputError, match="holds a checkpoint already"):
        train(recipe, tmp_path, lists=lists)
    other = _recipe("supervised", tiny, max_steps=2, learning_rate=1e-3)
    with pytest.raises(InputError, match="checkpoint of another recipe"):
        train(other, tmp_path, lists=lists, resume=True)
    (tmp_path / "checkpoint.pt").write_bytes(b"rubbish")
    with pytest.raises(InputError, match="not a readable checkpoint"):
        train(recipe, tmp_path, lists=lists, resume=True)


def test_a_loss_that_is_not_finite_stops_with_the_step(tiny, dataset, tmp_path):
    recipe = _recipe("supervised", tiny, learning_rate=1e30, clip=1e30, max_steps=10)
    with pytest.raises(TrainingError, match=r"not finite at step \d"):
        train(recipe, tmp_path, lists=_lists(recipe, dataset))


def test_a_full_disk_is_one_line_and_keeps_the_checkpoint(tiny, dataset, tmp_path, monkeypatch):
    recipe = _recipe("supervised", tiny, max_steps=8)
    lists = _lists(recipe, dataset)
    train(recipe, tmp_path, lists=lists, stop_after=4)
    before = (tmp_path / "checkpoint.pt").read_bytes()
    import shutil

    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=10))
    with pytest.raises(TrainingError, match="make room and go on with --resume"):
        train(recipe, tmp_path, lists=lists, resume=True)
    assert (tmp_path / "checkpoint.pt").read_bytes() == before


def test_a_reward_that_tells_nothing_apart_says_so(tiny, dataset, tmp_path):
    recipe = _recipe("grpo", tiny)
    constant = recipe.grpo.model_copy(update={"reward": "rank-r1", "constant_after": 2})
    recipe = recipe.model_copy(update={"grpo": constant})
    with pytest.raises(RerankError, match="nothing can be learned"):
        train(recipe, tmp_path, lists=_lists(recipe, dataset))


def test_grpo_reads_answers_of_different_length_as_it_would_each_alone(tiny, dataset):
    from rerank_lm.training.causal import GrpoTask

    recipe = _recipe("grpo", tiny, max_steps=3)
    task = GrpoTask(recipe)
    lists = _lists(recipe, dataset)
    loss = task.loss(lists.train[:1], 0)
    assert torch.isfinite(loss) and loss.requires_grad
    assert {"reward", "informative_prompts"} <= set(task.log)
    task.module.eval()
    answers = [[31, 32, 33], [34], [35, 36]]
    together, mask = task._log_probs([5, 6, 7], answers)
    assert mask.sum(dim=1).tolist() == [3, 1, 2]
    for row, answer in zip(together, answers, strict=True):
        alone = task._log_probs([5, 6, 7], [answer])[0][0]
        assert torch.allclose(row[: len(answer)], alone, atol=1e-5)


def test_wrong_words_are_named(tiny, dataset, tmp_path):
    recipe = _recipe("supervised", tiny, max_steps=1)
    for name, message in (("ranknett", "no loss 'ranknett'"), ("distil", "set data.teacher")):
        wrong = recipe.model_copy(update={"loss": recipe.loss.model_copy(update={"name": name})})
        with pytest.raises(UsageError, match=message):
            train(wrong, tmp_path / name, lists=_lists(recipe, dataset))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: [", r"r\.yaml:1: not YAML"),
        ("- a", "a recipe is a mapping"),
        ("name: a\nkind: cross-encoder\nmodel: m\ntrain: {epochs: 0}", r"train\.epochs: .*greater than or equal to 1"),
        ("name: a\nkind: cross-encoder\nmodel: m\nlosss: {}", r"losss: Extra inputs"),
        ("name: a\nkind: magic\nmodel: m", "kind: Input should be"),
        ("name: a\nkind: cross-encoder\nmodel: m\ntrain: {device: xcpu}", r"train\.device: String should match"),
        ("name: a\nkind: cross-encoder\nmodel: m\ntrain: {device: 'cuda:a'}", r"train\.device: String should match"),
    ],
)
def test_bad_recipes_name_file_and_setting(tmp_path, text, message):
    path = tmp_path / "r.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        load_recipe(path)
    with pytest.raises(InputError, match="cannot read"):
        load_recipe(tmp_path / "none.yaml")


def test_the_device_is_the_machines_and_does_not_bind_a_checkpoint(tiny, dataset, tmp_path):
    recipe = _recipe("supervised", tiny, max_steps=2, device="cpu", autocast=True)
    outcome = train(recipe, tmp_path / "out", lists=_lists(recipe, dataset))
    assert np.isfinite(outcome.losses).all()
    elsewhere = recipe.model_copy(update={"train": recipe.train.model_copy(update={"device": "cuda:7"})})
    assert elsewhere.fingerprint() == recipe.fingerprint()
    if torch.cuda.device_count() < 8:
        with pytest.raises(UsageError, match="torch sees"):
            train(elsewhere, tmp_path / "other", lists=_lists(recipe, dataset))


def test_low_grades_can_count_as_not_relevant(dataset):
    first = dataset.requests[0]
    graded = Dataset([first], {first.id: dict(zip(first.ids, (1.0, 2.0, 3.0, 0.0), strict=False))})
    data = Recipe(name="x", kind="cross-encoder", model="m", data={"least_gain": 2.0}).data
    assert lists_of(graded, TEXT, data, 0).train[0].gains[:4] == (0.0, 2.0, 3.0, 0.0)


def test_every_shipped_recipe_is_valid():
    names = {p.stem for p in RECIPES.glob("*.yaml")}
    assert names == {"distil", "supervised", "first", "dear2", "e2rank", "mvp", "prorank", "grpo", "gmr", "car"}
    for path in RECIPES.glob("*.yaml"):
        assert load_recipe(path).name == path.stem


def test_a_dry_run_estimates_and_writes_nothing(tiny, dataset, tmp_path):
    recipe = _recipe("supervised", tiny, max_steps=7)
    before = set(tmp_path.iterdir())
    lines = "\n".join(estimate(recipe, _lists(recipe, dataset)).lines())
    assert re.search(r"steps 7, about [\d.]+ s each", lines) and "peak memory" in lines
    assert set(tmp_path.iterdir()) == before


@pytest.mark.slow
def test_a_killed_run_resumes_to_the_same_weights(tiny, tmp_path):
    """kill -9 between steps of the real command."""
    value = {
        "name": "k", "kind": "cross-encoder", "model": str(tiny["cross"]),
        "data": {"domain": "recommend", "depth": 50, "list_size": 4, "held_out": 0.0, "limit": 40, "words": 16},
        "train": {"epochs": 4, "batch": 1, "max_steps": 24, "save_every": 2, "threads": 1},
    }  # fmt: skip
    recipe = tmp_path / "k.yaml"
    recipe.write_text(yaml.safe_dump(value))
    train(load_recipe(recipe), tmp_path / "whole")
    command = [sys.executable, "-c", "from rerank_core.cli import main; main()", "train", str(recipe), "-o"]
    process = subprocess.Popen([*command, str(tmp_path / "cut")], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("step 9/"):
            os.kill(process.pid, signal.SIGKILL)
            break
    process.wait()
    assert (tmp_path / "cut" / "checkpoint.pt").exists() and not (tmp_path / "cut" / "README.md").exists()
    train(load_recipe(recipe), tmp_path / "cut", resume=True)
    assert (tmp_path / "whole" / "model.safetensors").read_bytes() == (
        tmp_path / "cut" / "model.safetensors"
    ).read_bytes()
