"""Fine-tuning without labels: variants, losses against hand-made numbers, and a real run on a tiny encoder."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rerank_core.budget import Budget
from rerank_core.errors import InputError, UsageError
from rerank_schema.augment import AUGMENTATIONS, MAX_VALUES, exact, lexical, read_names, semantic
from rerank_schema.finetune import FinetuneParams, batch_hard_triplet, contrastive, finetune, training_texts
from rerank_schema.tables import Column, column_from_values

torch = pytest.importorskip("torch")

NAMES = ["patientAge", "tumor_stage", "vital_status", "smoking_history", "tissue_type", "country", "bmi", "race_code"]
COLUMNS = [column_from_values("t", n, [f"v{i % 20}" for i in range(40)]) for n in NAMES]


@given(st.text(max_size=12), st.lists(st.text(max_size=8), max_size=40), st.integers(0, 99))
def test_variants_hold_values_of_the_column(name: str, cells: list[str], seed: int) -> None:
    column = column_from_values("t", name, cells)
    for variant in exact(column, np.random.default_rng(seed)):
        assert set(variant.values) <= set(column.values)
        assert len(variant.values) <= MAX_VALUES and len(variant.counts) == len(variant.values)
        assert sum(a != b for a, b in zip(variant.name, name, strict=True)) <= 1
    for augment in AUGMENTATIONS.values():
        first, second = (augment(column, np.random.default_rng(seed)) for _ in range(2))
        assert [(c.name, c.values) for c in first] == [(c.name, c.values) for c in second]


def test_lexical_variants_rename_and_read_the_documentation() -> None:
    described = Column("t", "ajcc_path_t", description="Pathologic stage of the tumor: AJCC")
    assert lexical(described, np.random.default_rng(0))[0].name == "pathologic_stage_tumor"
    names = {v.name for seed in range(20) for v in lexical(COLUMNS[1], np.random.default_rng(seed))}
    assert {"tumo_stag", "tmr_stg", "tumorStage", "stage_tumor", "tumor stage", "t_tumor_stage"} == names


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('Sure: [{"name": "age_yrs", "values": ["1", 2]}, {"name": ""}, 3]', [("age_yrs", ("1", "2"))]),
        ('[{"name": "a"}, {"name": "b", "values": null}]', [("a", ()), ("b", ())]),
        ("[broken", []),
        ("no list", []),
        ('{"name": "x"}', []),
    ],
)
def test_answers_of_a_language_model_are_read_or_passed_over(text: str, found: list) -> None:
    assert [(c.name, c.values) for c in read_names(text, COLUMNS[0])] == found


def test_semantic_variants_keep_to_the_budget() -> None:
    from rerank_core.types import Cost
    from rerank_lm.backends.base import Completion

    class Model:
        asked = 0

        def generate(self, prompts, sampling):
            self.asked += len(prompts)
            return [Completion('[{"name": "n", "values": ["v"]}]', cost=Cost(calls=1)) for _ in prompts]

    model = Model()
    variants, unusable = semantic(COLUMNS, model, Budget(3))  # type: ignore[arg-type]
    assert model.asked == 3 and unusable == 0
    assert [len(v) for v in variants] == [1, 1, 1, 0, 0, 0, 0, 0]


def test_losses_against_hand_made_numbers() -> None:
    angle = torch.tensor([0.0, 0.5, 2.0, 2.1])
    vectors = torch.stack([torch.cos(angle), torch.sin(angle)], dim=1)
    classes = torch.tensor([0, 0, 1, 1])
    cos = lambda a, b: float(np.cos(a - b))  # noqa: E731
    hard = []
    for i, (mate, others) in enumerate([(1, (2, 3)), (0, (2, 3)), (3, (0, 1)), (2, (0, 1))]):
        near = max(cos(float(angle[i]), float(angle[j])) for j in others)
        hard.append(max(0.0, (1 - cos(float(angle[i]), float(angle[mate]))) - (1 - near) + 1.0))
    assert float(batch_hard_triplet(vectors, classes, margin=1.0)) == pytest.approx(np.mean(hard), abs=1e-6)
    scores = (vectors @ vectors.T / 0.5).numpy()
    expected = [
        np.log(sum(np.exp(scores[i, j]) for j in range(4) if j != i)) - scores[i, mate]
        for i, mate in enumerate([1, 0, 3, 2])
    ]
    assert float(contrastive(vectors, classes, 0.5)) == pytest.approx(np.mean(expected), abs=1e-5)
    lonely = torch.tensor([0, 1, 2, 3])
    assert float(batch_hard_triplet(vectors, lonely)) == 0 == float(contrastive(vectors, lonely))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of two small layers with random weights and a character vocabulary."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertModel

    folder = tmp_path_factory.mktemp("models") / "tiny"
    letters = "abcdefghijklmnopqrstuvwxyz0123456789_:,"
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *letters, *(f"##{c}" for c in letters)]
    tokenizer = Tokenizer(models.WordPiece({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.add_special_tokens(["[PAD]", "[UNK]", "[CLS]", "[SEP]"])
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        "[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(words), hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=128,
    )  # fmt: skip
    BertModel(config).save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


@pytest.mark.parametrize("loss", ["triplet", "contrastive"])
def test_a_tiny_encoder_learns_to_tell_columns_apart(tiny: Path, tmp_path: Path, loss: str) -> None:
    from rerank_schema.encode import load_encoder

    params = FinetuneParams(str(tiny), loss=loss, epochs=8, classes=8, learning_rate=3e-3)
    said: list[str] = []
    outcome = finetune(COLUMNS, tmp_path / "one", params, say=said.append)
    assert outcome.losses[-1] < outcome.losses[0]
    assert max(outcome.after) > outcome.before
    assert len(said) == 1 + params.epochs
    again = finetune(COLUMNS, tmp_path / "two", params)
    assert again.losses == outcome.losses and again.after == outcome.after
    texts = [c[0] for c in training_texts(COLUMNS, params)]
    vectors = [load_encoder(str(tmp_path / n), "fp32", cache=False).encode(texts) for n in ("one", "two")]
    assert np.array_equal(*vectors)
    assert not np.allclose(vectors[0], load_encoder(str(tiny), "fp32", cache=False).encode(texts))
    assert json.loads((tmp_path / "one" / "finetune.json").read_text())["loss"] == loss
    with pytest.raises(InputError, match="exists already"):
        finetune(COLUMNS, tmp_path / "one", params)


def test_what_cannot_be_learned_is_said(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="unknown loss"):
        FinetuneParams(loss="cosine")
    with pytest.raises(UsageError, match="unknown augmentation"):
        FinetuneParams(augmentations=("exact", "magic"))
    with pytest.raises(InputError, match="at least two"):
        finetune(COLUMNS[:1], tmp_path / "x", FinetuneParams(str(tiny), epochs=1))
    assert not (tmp_path / "x").exists()


def test_the_command_writes_an_encoder_that_match_takes(tiny: Path, tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from rerank_schema.cli import app

    table = tmp_path / "t.csv"
    table.write_text("age,stage,sex\n1,a,m\n2,b,f\n3,c,m\n", encoding="utf-8")
    out = tmp_path / "model"
    run = CliRunner().invoke
    done = run(app, ["finetune", str(table), "-o", str(out), "--model", str(tiny), "--epochs", "1"])
    assert done.exit_code == 0, done.output
    result = tmp_path / "o.csv"
    arguments = ["match", str(table), str(table), "-o", str(result), "--method", "magneto", "-s", f"model={out}"]
    done = run(app, [*arguments, "-s", "cache=false"])
    assert done.exit_code == 0, done.output
    assert result.read_text().count("\n") == 1 + 9
    refused = run(app, ["finetune", str(table), "-o", str(tmp_path / "n"), "--augmentation", "semantic"])
    assert isinstance(refused.exception, UsageError)
