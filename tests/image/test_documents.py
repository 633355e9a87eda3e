"""Page pictures ranked by judges that see: a real (tiny, random) Qwen2.5-VL from a folder, and a server over HTTP."""

from __future__ import annotations

import base64
import io
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from tests.image.commands import command

from rerank_core.errors import InputError
from rerank_core.types import Candidate, Ranked, Ranking
from rerank_image.documents import Page, PageCodec, PageRendering, page_recall

COLOURS = ("red", "green", "blue", "white", "black")


def picture(colour: str) -> bytes:
    from PIL import Image

    data = io.BytesIO()
    Image.new("RGB", (56, 84), colour).save(data, "PNG")
    return data.getvalue()


@pytest.fixture(scope="module")
def requests(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two questions over five pages: pictures inside the file, a picture's path, and text."""
    folder = tmp_path_factory.mktemp("pages")
    (folder / "blue.png").write_bytes(picture("blue"))
    pages = [{"picture": base64.b64encode(picture(c)).decode()} for c in COLOURS]
    lines = []
    for q in ("guides/q1", "papers/q2"):
        contents: list[Any] = [pages[0], pages[1], {"path": str(folder / "blue.png")}, "A page of words.", pages[4]]
        candidates = [{"id": f"p{i}", "content": c, "score": 5.0 - i} for i, c in enumerate(contents)]
        lines.append(json.dumps({"id": q, "query": "Which page is blue?", "candidates": candidates}))
    (folder / "requests.jsonl").write_text("\n".join(lines))
    (folder / "gold.qrels").write_text("guides/q1 0 p2 1\npapers/q2 0 p1 1\npapers/q2 0 p2 1\n")
    return folder / "requests.jsonl"


def rankings(path: Path) -> dict[str, Any]:
    return {r["id"]: r for r in map(json.loads, path.read_text().splitlines())}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny random Qwen2.5-VL and the packaged tokenizer."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("torchvision")
    from transformers import (
        AutoTokenizer,
        Qwen2_5_VLConfig,
        Qwen2_5_VLForConditionalGeneration,
        Qwen2_5_VLProcessor,
        Qwen2VLVideoProcessor,
    )
    from transformers.models.qwen2_vl import Qwen2VLImageProcessor

    from rerank_lm.models import resolve_model

    tokenizer = AutoTokenizer.from_pretrained(resolve_model("smollm2-135m-instruct").tokenizer.parent)
    special = ["<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]
    tokenizer.add_special_tokens({"additional_special_tokens": special})
    start, end, image, video = tokenizer.convert_tokens_to_ids(special)
    template = (
        "{% for m in messages %}{% for c in m['content'] %}{% if c['type'] == 'image' %}<|vision_start|><|image_pad|>"
        "<|vision_end|>{% else %}{{ c['text'] }}{% endif %}{% endfor %}\n{% endfor %}"
    )
    folder = tmp_path_factory.mktemp("vl")
    Qwen2_5_VLProcessor(
        image_processor=Qwen2VLImageProcessor(min_pixels=28 * 28, max_pixels=28 * 28 * 4),
        tokenizer=tokenizer,
        video_processor=Qwen2VLVideoProcessor(),
        chat_template=template,
    ).save_pretrained(folder)
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
    torch.manual_seed(0)
    config = Qwen2_5_VLConfig(
        text_config=text, vision_config=vision, image_token_id=image, video_token_id=video,
        vision_start_token_id=start, vision_end_token_id=end,
    )  # fmt: skip
    Qwen2_5_VLForConditionalGeneration(config).save_pretrained(folder)
    return folder


def test_gmr_and_mm_r5_rank_pages_with_a_local_model(requests: Path, model: Path, tmp_path: Path) -> None:
    base = ("documents", "rerank", requests, "--model", model)
    command(*base, "--method", "gmr", "-o", tmp_path / "gmr.jsonl")
    scored = rankings(tmp_path / "gmr.jsonl")["guides/q1"]
    assert sorted(r["id"] for r in scored["ranking"]) == [f"p{i}" for i in range(5)]
    assert len({r["score"] for r in scored["ranking"]}) == 5, "every page got a score of its own"
    command(*base, "--method", "mm-r5", "--set", "max_tokens=4", "-o", tmp_path / "r5.jsonl")
    listed = rankings(tmp_path / "r5.jsonl")["papers/q2"]
    # a random model writes no ranking: the order stays the first stage's, and the status says so
    assert [r["id"] for r in listed["ranking"]] == [f"p{i}" for i in range(5)]
    assert listed["status"] in ("fallback", "truncated")


@pytest.fixture
def server() -> Iterator[tuple[str, list[Any]]]:
    """An OpenAI-compatible server that keeps what it was asked and answers one ranking."""
    asked: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            answer = "<think>Image 3: blue.</think><answer>[3, 2, 3, 9]</answer>"
            body = json.dumps({
                "choices": [{"message": {"role": "assistant", "content": answer}, "finish_reason": "stop"}],
                "usage": {"prompt_tokens": 10, "completion_tokens": 5},
            }).encode()  # fmt: skip
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    http = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{http.server_port}", asked
    http.shutdown()
    thread.join()
    http.server_close()


def test_mm_r5_over_http_and_the_measures(requests: Path, server: tuple[str, list[Any]], tmp_path: Path) -> None:
    url, asked = server
    out = tmp_path / "r5.jsonl"
    command("documents", "rerank", requests, "--method", "mm-r5", "--endpoint", url, "--model", "vl", "-o", out)
    done = rankings(out)
    for r in done.values():  # doubled and unknown numbers are dropped, missing ones follow in first-stage order
        assert [i["id"] for i in r["ranking"]] == ["p2", "p1", "p0", "p3", "p4"]
        assert r["status"] == "repaired"
    parts = asked[0]["messages"][-1]["content"]
    assert sum(p["type"] == "image_url" for p in parts) == 4, "four pages are pictures, one is text"
    command("documents", "rerank", requests, "--method", "none", "-o", tmp_path / "first.jsonl")
    gold = requests.parent / "gold.qrels"
    rows = json.loads(command("documents", "eval", tmp_path / "first.jsonl", out, "--gold", gold, "--json").stdout)
    value = {(r["system"], r["measure"]): r["value"] for r in rows}
    assert value["first", "R@1-micro"] == 0 and value["first", "R@3-micro"] == 1
    assert value["r5", "R@1-micro"] == 0.75, "one gold page of one, one of two"


def test_macro_is_over_domains() -> None:
    gold = {"a/1": {"x": 1.0}, "a/2": {"x": 1.0}, "a/3": {"x": 1.0}, "b/1": {"x": 1.0}}
    hit, miss = (Ranked("x", 2.0), Ranked("y", 1.0)), (Ranked("y", 2.0), Ranked("x", 1.0))
    done = [Ranking("a/1", hit), Ranking("a/2", miss), Ranking("b/1", hit)]  # a/3 has no ranking: it counts as missed
    rows = {r.measure: r for r in page_recall(gold, done, ks=(1,), n_boot=50)}
    assert rows["R@1-micro"].value == pytest.approx(0.5) and rows["R@1-micro"].n == 4
    assert rows["R@1-macro"].value == pytest.approx((1 / 3 + 1) / 2)


def test_pages_survive_json_and_bad_ones_are_named(tmp_path: Path) -> None:
    codec = PageCodec()
    for page in (Page("words"), Page("caption", b"\x00\x01"), Page(path="a.png")):
        assert codec.decode_query(json.loads(json.dumps(codec.encode_query(page)))) == page
    for bad in (3, {}, {"text": 1}, {"picture": "%%"}):
        with pytest.raises(InputError, match="page"):
            codec.decode_query(bad)
    with pytest.raises(InputError, match=r"'p1'.*not a readable picture"):
        PageRendering().candidate(Candidate("p1", Page(picture=b"no picture")))
    (tmp_path / "cut.png").write_bytes(picture("red")[:40])
    with pytest.raises(InputError, match=r"cut\.png"):
        PageRendering().candidate(Candidate("p2", Page(path=str(tmp_path / "cut.png"))))
