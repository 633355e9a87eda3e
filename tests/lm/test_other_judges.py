"""MVP, CLUE, FairEval, E2Rank and the judges that see."""

from __future__ import annotations

import gzip
import io
import json

import numpy as np
import pytest
import torch
from tests.lm.lm_helpers import Scripted, group, pair, triple

from rerank_core.errors import InputError
from rerank_core.strategies import Group, Item, Pair, Picture
from rerank_core.types import Status
from rerank_lm.judges.clue import Centroids, Clue, top_majority
from rerank_lm.judges.e2rank import E2Rank
from rerank_lm.judges.faireval import FairEval, bpde, calibrated_scores, for_a_person, outcomes
from rerank_lm.judges.mvp import Mvp, MvpConfig, MvpModel
from rerank_lm.judges.vision import Gmr, MmR5


@pytest.fixture
def mvp(smol):
    from transformers import T5Config, T5Model

    torch.manual_seed(0)
    config = T5Config(
        vocab_size=len(smol.tokenizer), d_model=64, d_kv=16, d_ff=128, num_layers=2, num_heads=4,
        dropout_rate=0.0, decoder_start_token_id=0, pad_token_id=2, eos_token_id=2,
    )  # fmt: skip
    return Mvp(MvpModel(T5Model(config), MvpConfig(words=60, max_length=96)), smol.tokenizer)


def test_mvp_does_not_care_for_the_order(mvp):
    contents = ["A flea lives about a year.", "Rome is old.", "Cats sleep a lot of the day.", "Fleas jump."]
    [scores] = mvp.score_groups([group("flea", *contents)])
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(4)
        [moved] = mvp.score_groups([group("flea", *[contents[i] for i in order])])
        assert np.abs(moved - scores[order]).max() < 1e-5


def test_mvp_lists_of_different_length_do_not_meet(mvp):
    both = mvp.score_groups([group("flea", "a year", "Rome", "cats"), group("dog", "barks"), group("none")])
    assert [len(s) for s in both] == [3, 1, 0]
    assert np.abs(both[1] - mvp.score_groups([group("dog", "barks")])[0]).max() < 1e-5


def test_mvp_saves_and_loads(mvp, tmp_path):
    question = [group("flea", "a year", "Rome")]
    mvp.save(tmp_path / "m")
    again = Mvp.load(tmp_path / "m")
    assert np.allclose(again.score_groups(question)[0], mvp.score_groups(question)[0], atol=1e-6)
    with pytest.raises(InputError, match=r"mvp\.json is missing"):
        Mvp.load(tmp_path)


@pytest.mark.slow
@pytest.mark.shared_data
def test_mvp_overfits_twenty_lists(mvp, shared_data):
    from rerank_core.measures import parse
    from rerank_core.types import Candidate, Ranking, Request
    from rerank_lm.losses import listnet, orthogonal

    folder = shared_data("text/noveleval_2306")
    with gzip.open(folder / "candidates.jsonl.gz", "rt") as file:
        rows = [json.loads(line) for line in file][:20]
    gold: dict[str, dict[str, float]] = {}
    for line in (folder / "qrels.txt").read_text().splitlines():
        q, _, d, g = line.split()
        gold.setdefault(q, {})[d] = float(g)
    rows = [{**r, "candidates": r["candidates"][:10]} for r in rows]
    groups = [
        Group(r["query"], tuple(Item(" ".join(c["text"].split()[:24]), c["docid"]) for c in r["candidates"]))
        for r in rows
    ]
    gains = torch.tensor([[gold[str(r["qid"])].get(c["docid"], 0.0) for c in r["candidates"]] for r in rows])
    ids, mask, items = mvp.encode(groups)
    model = mvp.model.train()
    optimiser = torch.optim.Adam(model.parameters(), lr=2e-3)
    for step in range(120):
        optimiser.zero_grad()
        part = torch.arange(20)[(torch.arange(20) % 4) == step % 4]
        scores, anchors = model(ids[part], mask[part], items[part])
        (listnet(scores, 3 * gains[part], items[part]) + 0.01 * orthogonal(anchors)).backward()
        optimiser.step()
    scored = mvp.score_groups(groups) if not model.eval().training else []
    requests = [
        Request(str(r["qid"]), r["query"], tuple(Candidate(c["docid"], c["text"]) for c in r["candidates"]))
        for r in rows
    ]
    rankings = {q.id: Ranking.from_scores(q, s) for q, s in zip(requests, scored, strict=True)}
    seen = {r.id: {c.id: gold[r.id].get(c.id, 0.0) for c in r.candidates} for r in requests}
    measure = parse("nDCG@10")
    rows_ = measure.rows(seen, rankings, {r.id: r for r in requests})
    value = measure.aggregate(np.array(list(rows_.values())))
    print(f"nDCG@10 {value:.4f}")
    assert value > 0.99


def test_clue_by_hand():
    changes = np.zeros((4, 2, 3))
    changes[:2, :, 0] = 1.0
    changes[2:, :, 0] = -1.0
    centroids = Centroids.fit(changes, [True, True, False, False])
    score = centroids.score(np.array([[[1.0, 0, 0], [0.0, 0, 0]]]))
    assert score[0] == pytest.approx((2.0 + 1.0) / 2 - (0.0 + 1.0) / 2)
    assert top_majority(["a", "b", "b", "c"], np.array([0.9, 0.5, 0.4, 0.8]), 3) == "a"
    assert top_majority(["a", "b", "b", "c"], np.array([0.9, 0.5, 0.4, 0.1]), 3) == "b"
    with pytest.raises(ValueError, match="one success and one failure"):
        Centroids.fit(changes, [True] * 4)


def test_clue_on_the_model(smol):
    from rerank_lm.judges.clue import changes

    traces = [pair("2+2?", f"<think> {t} </think> 4") for t in ("two and two is four", "I do not know at all", "four")]
    found = changes(smol, traces[:2])
    judge = Clue(smol, Centroids.fit(np.stack(found), [True, False]))
    scores = judge.score([*traces, pair("2+2?", "no marks")])
    assert scores[0] > 0 > scores[1] and np.isfinite(scores[2]) and np.isnan(scores[3])


@pytest.mark.shared_data
def test_faireval_numbers_equal_the_oracle(shared_data):
    for case in json.loads(shared_data("summary/oracle/faireval.json").read_text())["mec_bpc_bpde"]:
        forward, backward = case["order_AB"], case["order_BA_as_printed"]
        a, b = calibrated_scores(forward, backward)
        assert [a, b] == pytest.approx(case["calibrated"])
        assert ("win" if a > b else "lose" if a < b else "tie") == case["verdict_A"]
        assert bpde(forward, backward) == pytest.approx(case["bpde_nat_log"])


@pytest.mark.shared_data
def test_first_line_scores_of_gpt4_reproduce_the_known_agreement(shared_data):
    from rerank_lm.parsing import parse_pair_scores

    with gzip.open(shared_data("summary/faireval/fastchat_reviews.jsonl.gz"), "rt") as file:
        reviews = [json.loads(line) for line in file]
    with gzip.open(shared_data("summary/faireval/vicuna80.jsonl.gz"), "rt") as file:
        human = {r["question_id"]: r["human_gpt35_vs_vicuna13b"] for r in map(json.loads, file)}
    names = {(r["judge"], r["model_1"], r["model_2"]) for r in reviews}
    [key] = [
        n
        for n in names
        if n[0].lower().replace("-", "") == "gpt4"
        and "gpt35" in n[1].replace("-", "").replace(".", "")
        and n[2] == "vicuna-13b"
    ]
    verdicts = []
    for r in reviews:
        if (r["judge"], r["model_1"], r["model_2"]) == key:
            p = parse_pair_scores(r["review"])
            a, b = p.scores if p.scores is not None and p.first_line else (0.0, 0.0)
            verdicts.append(("win" if a > b else "lose" if a < b else "tie", human[r["question_id"]]))
    assert len(verdicts) == 80
    agree = np.mean([a == b for a, b in verdicts])
    chance = sum(
        np.mean([a == k for a, _ in verdicts]) * np.mean([b == k for _, b in verdicts]) for k in ("win", "tie", "lose")
    )
    assert 100 * agree == pytest.approx(48.75)
    assert (agree - chance) / (1 - chance) == pytest.approx(0.184, abs=5e-4)


@pytest.mark.shared_data
def test_a_model_against_itself_shows_its_position_bias(shared_data):
    from rerank_lm.judges.faireval import position_bias
    from rerank_lm.parsing import parse_pair_scores

    with gzip.open(shared_data("summary/faireval/fastchat_reviews.jsonl.gz"), "rt") as file:
        reviews = [r for r in map(json.loads, file) if r["model_1"] == r["model_2"]]
    read = [parse_pair_scores(r["review"]) for r in reviews]
    bias = position_bias([p.scores for p in read if p.scores is not None and p.first_line])
    assert (bias.first, bias.tie, bias.second) == (0, 61, 10)
    assert str(bias) == "second position preferred 10:0 (61 ties, binomial p=0.002)"


def test_faireval_judge_balances_positions():
    always_first = Scripted(["evidence\nScore of Assistant 1: 9\nScore of Assistant 2: 5"])
    judge = FairEval(always_first, samples=2)
    assert judge.prefer([triple("q", "a", "b")])[0] == 0.5
    assert len(always_first.asked) == 4 == judge.calls_per_question
    broken = FairEval(Scripted(["no scores here"]), samples=1)
    assert broken.prefer([triple("q", "a", "b")])[0] == 0.5
    assert sum(v for k, v in broken.report.items() if k.startswith("abstained")) == 2
    assert outcomes([(9, 5)], [(9, 5)]) == ["win", "lose"]
    assert for_a_person(np.array([0.1, 0.9, 0.5, 0.2, 0.0])).tolist() == [1]


def test_e2rank_reads_the_first_documents():
    pytest.importorskip("rerank_lm.encoders")
    from rerank_lm.backends.encoder import EncoderBackEnd

    judge = E2Rank(EncoderBackEnd("all-minilm-l6-v2"), feedback=2)
    [scores] = judge.score_groups(
        [group("how long does a flea live", "A flea lives about a year.", "Rome is old.", "Fleas")]
    )
    assert scores.argmax() == 0
    assert judge._pseudo_query(group("q", "one", "two", "three")).text.count("[") == 2


def test_e2rank_on_a_causal_model(smol):
    [scores] = E2Rank(smol, end="<|endoftext|>").score_groups([group("flea", "A flea lives about a year.", "Rome.")])
    assert scores.shape == (2,) and (np.abs(scores) <= 1 + 1e-6).all()


@pytest.fixture(scope="module")
def seer(smol):
    """A tiny random Qwen2.5-VL with the packaged tokenizer."""
    pytest.importorskip("torchvision")
    from transformers import (
        AutoTokenizer,
        Qwen2_5_VLConfig,
        Qwen2_5_VLForConditionalGeneration,
        Qwen2_5_VLProcessor,
        Qwen2VLVideoProcessor,
    )
    from transformers.models.qwen2_vl import Qwen2VLImageProcessor

    from rerank_lm.backends.vision import VisionBackEnd

    tokenizer = AutoTokenizer.from_pretrained(smol._folder)
    special = ["<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]
    tokenizer.add_special_tokens({"additional_special_tokens": special})
    tokenizer.image_token, tokenizer.video_token = special[2:]
    start, end, image, video = tokenizer.convert_tokens_to_ids(special)
    template = (
        "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% for c in m['content'] %}{% if c['type'] == 'image' %}"
        "<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ c['text'] }}{% endif %}{% endfor %}<|im_end|>\n"
        "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    processor = Qwen2_5_VLProcessor(
        image_processor=Qwen2VLImageProcessor(min_pixels=28 * 28, max_pixels=28 * 28 * 4),
        tokenizer=tokenizer,
        video_processor=Qwen2VLVideoProcessor(),
        chat_template=template,
    )
    text = {
        "vocab_size": len(tokenizer), "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 4096,
        "rope_parameters": {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 10000.0},
        "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2,
    }  # fmt: skip
    vision = {
        "depth": 2, "hidden_size": 32, "intermediate_size": 64, "num_heads": 4, "out_hidden_size": 32,
        "fullatt_block_indexes": [1], "window_size": 56,
    }  # fmt: skip
    config = Qwen2_5_VLConfig(
        text_config=text, vision_config=vision, image_token_id=image, video_token_id=video,
        vision_start_token_id=start, vision_end_token_id=end,
    )  # fmt: skip
    torch.manual_seed(0)
    model = Qwen2_5_VLForConditionalGeneration(config)
    return VisionBackEnd((model, tokenizer), processor=processor, name="tiny-vl")


def _picture(colour: str) -> Picture:
    from PIL import Image

    data = io.BytesIO()
    Image.new("RGB", (56, 56), colour).save(data, "PNG")
    return Picture(data.getvalue())


def test_gmr_scores_text_and_pictures(seer):
    judge = Gmr(seer)
    scores = judge.score(
        [Pair("red", Item(_picture("red"))), Pair("red", Item(_picture("blue"))), Pair("red", Item("text"))]
    )
    assert scores.shape == (3,) and scores[0] != scores[1]
    assert Gmr(seer, contrastive=True).score([Pair("red", Item("text"))])[0] != scores[2]


def test_mm_r5_orders_pictures(seer):
    [order] = MmR5(seer, max_tokens=6).order([Group("red?", (Item(_picture("red")), Item(_picture("blue"))))])
    assert sorted(order.permutation) == [0, 1]
    pages = Group("q", tuple(Item(_picture(c)) for c in ("red", "green", "blue")))
    scripted = Scripted(["<think>Image 1: ...</think><answer>[2, 2, 3]</answer>"])
    [mended] = MmR5(scripted).order([pages])
    assert (mended.permutation, mended.status) == ((1, 2, 0), Status.REPAIRED)
    assert sum(isinstance(p, Picture) for p in scripted.asked[0].messages[1].parts) == 3


def test_a_broken_picture_is_named(seer):
    with pytest.raises(InputError, match="not a readable picture"):
        Gmr(seer).score([Pair("q", Item(Picture(b"not an image")))])


def test_gmr_takes_a_training_step(seer):
    from rerank_lm.losses import unified

    model = seer.model
    prompts = [Gmr(seer).prompt(Pair("red", Item(_picture(c)))) for c in ("red", "blue")]
    yes, no = (seer.tokenizer(t, add_special_tokens=False)["input_ids"][0] for t in ("yes", "no"))
    optimiser = torch.optim.SGD(model.parameters(), lr=1.0)

    def margins():
        logits = torch.stack([model(**seer._inputs(p), logits_to_keep=1).logits[0, -1] for p in prompts])
        return logits[:, yes].unsqueeze(0), logits[:, no].unsqueeze(0)

    z_yes, z_no = margins()
    unified(z_yes, z_no, torch.tensor([[1.0, 0.0]])).backward()
    optimiser.step()
    after_yes, after_no = margins()
    before = (z_yes - z_no)[0, 0] - (z_yes - z_no)[0, 1]
    assert ((after_yes - after_no)[0, 0] - (after_yes - after_no)[0, 1]).item() > before.item()
    model.eval()
