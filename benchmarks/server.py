"""The server against a direct batch call, and under minutes of mixed load.

``python benchmarks/server.py [--method cross-encoder] [--minutes 10]`` starts ``rerank serve`` on a free loopback port and
prints p50 at 200 concurrent requests over the seconds of one batch call on the same requests (limit 1.3). With
``--minutes`` it then sends good and malformed requests of every shape, stops the server in the middle of them, and prints
how many were answered with what: nothing may be lost, and no 5xx but 503 while it stops.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from statistics import median

import httpx

from rerank_core import Candidate, Request
from rerank_core.domain import load

SAMPLE = load("passages").sample().requests
BODIES = [{"query": r.query, "documents": [c.content[:300] for c in r.candidates[:5]]} for r in SAMPLE]
MALFORMED: list[tuple[str, bytes]] = [
    ("/v1/rerank", b"{"),
    ("/v1/rerank", b"\xff\xfe"),
    ("/v1/rerank", b'{"query": 1, "documents": []}'),
    ("/v1/rerank", b'{"query": "a", "documents": [1, null]}'),
    ("/rerank", b'{"query": "a"}'),
    ("/rerank", b"[]"),
    ("/v1/domains/nowhere/rerank", b'{"requests": []}'),
    ("/v1/domains/passages/rerank", b'{"requests": [{"id": "x"}]}'),
    ("/v1/rerank", b'{"query": "a", "documents": ["' + b"x" * 300_000 + b'"]}'),
]


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def memory(pid: int) -> float:
    """Return a process's resident MiB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    return 0.0


async def ready(url: str) -> None:
    async with httpx.AsyncClient(timeout=5) as client:
        for _ in range(600):
            try:
                if (await client.get(url + "/health")).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            await asyncio.sleep(0.2)
    raise SystemExit("the server did not come up")


async def at_once(url: str, n: int) -> list[float]:
    """Return the seconds of n requests sent at once."""
    limits = httpx.Limits(max_connections=n, max_keepalive_connections=n)
    async with httpx.AsyncClient(timeout=600, limits=limits) as client:
        await client.post(url + "/v1/rerank", json=BODIES[0])

        async def one(i: int) -> float:
            start = time.perf_counter()
            answer = await client.post(url + "/v1/rerank", json=BODIES[i % len(BODIES)])
            answer.raise_for_status()
            return time.perf_counter() - start

        return list(await asyncio.gather(*(one(i) for i in range(n))))


async def mixed(url: str, minutes: float, server: subprocess.Popen[bytes]) -> None:
    """Send good and malformed requests from 32 clients; stop the server in the end; count the answers."""
    answers: Counter[str] = Counter()
    wrong: list[str] = []
    stopping = asyncio.Event()
    until = time.monotonic() + 60 * minutes
    before = memory(server.pid)
    peak = before

    async def client(seed: int) -> None:
        rng = random.Random(seed)
        async with httpx.AsyncClient(timeout=600) as http:
            while True:
                good = rng.random() < 0.7
                try:
                    if good:
                        body = rng.choice(BODIES)
                        shape = rng.randrange(3)
                        if shape == 0:
                            answer = await http.post(url + "/v1/rerank", json=body)
                        elif shape == 1:
                            answer = await http.post(
                                url + "/rerank", json={"query": body["query"], "texts": body["documents"]}
                            )
                        else:
                            request = {
                                "id": "q",
                                "query": body["query"],
                                "candidates": [{"id": str(i), "content": d} for i, d in enumerate(body["documents"])],
                            }
                            answer = await http.post(
                                url + "/v1/domains/passages/rerank", json={"requests": [request], "method": "bm25"}
                            )
                    else:
                        path, raw = rng.choice(MALFORMED)
                        answer = await http.post(url + path, content=raw, headers={"content-type": "application/json"})
                except httpx.TransportError as error:
                    if stopping.is_set():
                        answers["connection refused or closed while stopping"] += 1
                        return
                    wrong.append(f"lost: {error!r}")
                    return
                kind = "good" if good else "malformed"
                answers[f"{kind} {answer.status_code}"] += 1
                fine = answer.status_code in ({200, 429} if good else {400, 404, 413, 422})
                if stopping.is_set() and answer.status_code == 503:
                    return
                if not fine:
                    wrong.append(f"{kind} {answer.status_code} {answer.text[:100]}")

    async def stop() -> None:
        nonlocal peak
        while time.monotonic() < until:
            peak = max(peak, memory(server.pid))
            await asyncio.sleep(1)
        stopping.set()
        server.send_signal(signal.SIGTERM)

    await asyncio.gather(stop(), *(client(seed) for seed in range(32)))
    code = server.wait(60)
    for kind, count in sorted(answers.items()):
        print(f"{kind:<48}{count:>10,}")
    print(
        f"exit code {code}; server memory {before:.0f} MiB at first, {peak:.0f} MiB at most; wrong or lost: {len(wrong)}"
    )
    for line in wrong[:5]:
        print("  " + line)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--method", default="cross-encoder")
    parser.add_argument("--concurrent", type=int, default=200)
    parser.add_argument("--minutes", type=float, default=0.0)
    args = parser.parse_args()
    requests = [
        Request(f"q{i}", b["query"], tuple(Candidate(str(j), d) for j, d in enumerate(b["documents"])))
        for i in range(args.concurrent)
        for b in [BODIES[i % len(BODIES)]]
    ]
    port = free_port()
    command = [str(Path(sys.executable).parent / "rerank"), "serve", "--port", str(port), "--domain", "passages"]
    server = subprocess.Popen([*command, "--text-method", args.method], stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    try:
        asyncio.run(ready(url))
        asyncio.run(at_once(url, 8))
        reranker = load("passages").method(args.method)
        reranker.rerank(requests[:2])
        start = time.perf_counter()
        reranker.rerank(requests)
        direct = time.perf_counter() - start
        seconds = asyncio.run(at_once(url, args.concurrent))
        p50 = median(seconds)
        print(
            f"{args.concurrent} requests, {sum(len(r.candidates) for r in requests)} pairs, {args.method}: direct batch"
            f" {direct:.2f} s; at once over HTTP p50 {p50:.2f} s, slowest {max(seconds):.2f} s;"
            f" ratio {p50 / direct:.2f} (limit 1.3)"
        )
        if args.minutes:
            asyncio.run(mixed(url, args.minutes, server))
    finally:
        server.kill()


if __name__ == "__main__":
    main()
