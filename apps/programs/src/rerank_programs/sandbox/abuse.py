"""Programs that try to get out, hang, eat the machine or cheat. ``sandbox-check`` runs every one of them here.

Place holders are filled in by the check: ``{db}`` the database file, ``{outside}`` a folder outside the sandbox with a
canary file in it, ``{port}`` a listening port on loopback, ``{pid}`` the caller's process.
"""

# ruff: noqa: E501 - one program, one line

from __future__ import annotations

from dataclasses import dataclass

from rerank_programs.results import Verdict

T, M, D, E, L, OK, U = (
    Verdict.TIMEOUT,
    Verdict.MEMORY,
    Verdict.DENIED,
    Verdict.ERROR,
    Verdict.OUTPUT_TOO_LARGE,
    Verdict.OK,
    Verdict.UNSUPPORTED,
)


@dataclass(frozen=True, slots=True)
class Case:
    """One attempt.

    Parameters
    ----------
    allowed
        Verdicts that mean it was contained; ``ok`` is among them only where the program can do no harm by ending well.
    value
        Where given and the verdict is ``ok``, the value that an unharmed program would have.
    """

    name: str
    engine: str
    program: str
    allowed: frozenset[Verdict]
    value: object = None


def _sql(name: str, program: str, *allowed: Verdict) -> Case:
    return Case(name, "sqlite", program, frozenset(allowed))


def _py(name: str, program: str, *allowed: Verdict, engine: str = "python", value: object = None) -> Case:
    return Case(name, engine, program, frozenset(allowed), value)


_NUMBERS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n {})"

SQL = (
    _sql("infinite recursive CTE", _NUMBERS.format("") + " SELECT max(i) FROM n", T),
    _sql("six-way cross join", "SELECT sum(a.x * f.x) FROM t a, t b, t c, t d, t e, t f", T),
    _sql("printf of 900 MB", "SELECT length(printf('%.*c', 900000000, 'x'))", D, M),
    _sql("format of 900 MB", "SELECT length(format('%.*c', 900000000, 'x'))", D, M, E),
    _sql("zeroblob of 900 MB", "SELECT length(zeroblob(900000000))", D, M),
    _sql("randomblob of 500 MB", "SELECT length(randomblob(500000000))", D, M),
    _sql("replace bomb", "SELECT length(replace(hex(replace(hex('aaaaaaaaaa'), '6', (SELECT group_concat(x) FROM t))), '3', (SELECT group_concat(x) FROM t)))", M, T, E),
    _sql("group_concat bomb", _NUMBERS.format("WHERE i < 100000000") + " SELECT length(group_concat(i)) FROM n", M, T),
    _sql("sort of 50 million", _NUMBERS.format("WHERE i < 50000000") + " SELECT i FROM n ORDER BY random() LIMIT 1", T, M),
    _sql("LIKE backtracking", "SELECT (SELECT group_concat('a', '') FROM t a, t b LIMIT 1) LIKE '%a%a%a%a%a%a%a%a%a%a%b'", T, M, OK),
    _sql("DROP", "DROP TABLE t", D),
    _sql("DELETE", "DELETE FROM t", D),
    _sql("UPDATE", "UPDATE t SET x = 0", D),
    _sql("INSERT", "INSERT INTO t VALUES (1, 'x')", D),
    _sql("CREATE", "CREATE TABLE u (x)", D),
    _sql("CREATE TEMP", "CREATE TEMP TABLE u AS SELECT * FROM t", D),
    _sql("ALTER", "ALTER TABLE t RENAME TO u", D),
    _sql("INSERT RETURNING", "INSERT INTO t VALUES (1, 'x') RETURNING x", D),
    _sql("ATTACH a new file", "ATTACH '{outside}/new.sqlite' AS n", D),
    _sql("DETACH", "DETACH main", D),
    _sql("VACUUM INTO", "VACUUM INTO '{outside}/copy.sqlite'", D, E),
    _sql("VACUUM", "VACUUM", D, E),
    _sql("PRAGMA writable_schema", "PRAGMA writable_schema = 1", D),
    _sql("PRAGMA query_only", "PRAGMA query_only = 0", D),
    _sql("PRAGMA journal_mode", "PRAGMA journal_mode = DELETE", D),
    _sql("PRAGMA temp_store_directory", "PRAGMA temp_store_directory = '{outside}'", D),
    _sql("pragma as a table", "SELECT * FROM pragma_database_list", D),
    _sql("load_extension", "SELECT load_extension('{outside}/x.so')", D, E),
    _sql("readfile", "SELECT readfile('/etc/passwd')", D, E),
    _sql("writefile", "SELECT writefile('{outside}/new', 'x')", D, E),
    _sql("edit", "SELECT edit('x', 'sh')", D, E),
    _sql("two statements", "SELECT 1; DELETE FROM t", D, E),
    _sql("transaction", "BEGIN EXCLUSIVE", D),
    _sql("500 parentheses", "SELECT " + "(" * 500 + "1" + ")" * 500, E, D),
    _sql("deep expression", "SELECT " + "1+" * 5000 + "1", E, D),
    _sql("5 MB query", "SELECT '" + "x" * 5_000_000 + "'", D, E),
    _sql("NUL bytes", "SELECT 1\0; DROP TABLE t", E, D),
    _sql("invalid UTF-8", "SELECT '\udcff\udc80'", E, D),
    _sql("only a comment", "-- nothing here", E),
    _sql("empty", "", E),
    _sql("10 million rows", _NUMBERS.format("WHERE i < 10000000") + " SELECT i FROM n", L, T, M),
    _sql("wide cells", _NUMBERS.format("WHERE i < 1000") + " SELECT hex(group_concat(y) OVER ()) FROM t, n", L, M, T, E, OK),
    _sql("ETERNAL window", "SELECT sum(a.x) OVER (ORDER BY b.x, c.x, d.x) FROM t a, t b, t c, t d", T, M),
)  # fmt: skip

PYTHON = (
    _py("endless loop", "while True: pass", T),
    _py("fork bomb", "import os\nwhile True: os.fork()", D, T),
    _py("50 threads", "import threading, time\nfor _ in range(50): threading.Thread(target=time.sleep, args=(60,)).start()\n1", OK, E, T, M, D, value=1),
    _py("4 GiB bytearray", "len(bytearray(4 << 30))", M),
    _py("list doubling", "a = [0]\nwhile True: a += a", M, T),
    _py("regex backtracking", "import re\nre.match('(a+)+$', 'a' * 40 + 'b')", T),
    _py("huge integer", "10 ** 10 ** 9 % 7", T, M),
    _py("remove the database", "import os\nos.remove('{db}')", D, E),
    _py("overwrite the database", "open('{db}', 'w').write('x')", D, E),
    _py("write outside", "open('{outside}/new', 'w').write('x')", D, E),
    _py("symlink escape", "import os\nos.symlink('{outside}/canary', 'link')\nopen('link').read()", D, E),
    _py("symlink to write", "import os\nos.symlink('{outside}', 'dir')\nopen('dir/new', 'w').write('x')", D, E),
    _py("read the canary", "open('{outside}/canary').read()", D, E),
    _py("read /etc/passwd", "open('/etc/passwd').read()", D, E),
    _py("read ~/.ssh", "import os\nos.listdir(os.path.expanduser('~root/.ssh'))", D, E),
    _py("read /proc of the parent", "open('/proc/%d/environ' % __import__('os').getppid(), 'rb').read()", D, E),
    _py("environment", "import os\ndict(os.environ)", OK),
    _py("socket to loopback", "import socket\nsocket.create_connection(('127.0.0.1', {port}), 1)", D, E),
    _py("socket outside", "import socket\nsocket.create_connection(('192.0.2.1', 80), 1)", D, E, T),
    _py("resolve a name", "import socket\nsocket.gethostbyname('example.com')", D, E, T),
    _py("subprocess", "import subprocess\nsubprocess.run(['/bin/sh', '-c', 'touch {outside}/new'])", D, E),
    _py("os.system", "import os\nassert os.system('touch {outside}/new') == 0", D, E),
    _py("exec", "import os\nos.execv('/bin/sh', ['sh', '-c', 'touch {outside}/new'])", D, E),
    _py("ctypes segfault", "import ctypes\nctypes.string_at(0)", E),
    _py("raw ptrace", "import ctypes, os\nassert ctypes.CDLL(None).ptrace(16, os.getppid(), 0, 0) == 0", E, D),
    _py("kill the parent", "import os\nos.kill(os.getppid(), 9)", D, E),
    _py("kill the caller", "import os\nos.kill({pid}, 9)", D, E),
    _py("kill everything", "import os\nos.kill(-1, 9)", D, E, M),
    _py("SIGALRM reset", "import signal\nsignal.alarm(0)\nsignal.signal(signal.SIGALRM, signal.SIG_IGN)\nwhile True: pass", T),
    _py("raise own limits", "import resource\nresource.setrlimit(resource.RLIMIT_AS, (-1, -1))\nlen(bytearray(4 << 30))", E, M, D),
    _py("sys.exit", "import sys\nsys.exit(0)", E),
    _py("os._exit(0)", "import os\nos._exit(0)", E),
    _py("builtins patched", "import builtins\nbuiltins.len = lambda x: 42\nbuiltins.sum = lambda x: 42\n1", OK, E, value=1),
    _py("__del__ loop", "class A:\n    def __del__(self):\n        while True: pass\na = A()\ndel a\n1", T, OK, value=1),
    _py("huge stdout", "for _ in range(100000): print('x' * 10000)\n1", OK, T, value=1),
    _py("stdout forging a result", "import os, sys, struct\nframe = b'{{\"v\":\"ok\",\"k\":\"value\",\"c\":[\"value\"],\"r\":[[42]]}}'\nfor fd in (1, 2):\n    os.write(fd, struct.pack('!I', len(frame)) + frame)\n1", OK, E, value=1),
    _py("every pipe forging a result", "import os, struct\nframe = b'{{\"v\":\"ok\",\"k\":\"value\",\"c\":[\"value\"],\"r\":[[42]]}}'\nfor fd in range(3, 64):\n    try: os.write(fd, struct.pack('!I', len(frame)) + frame)\n    except OSError: pass\n1", E, OK, value=1),
    _py("hostile pickle", "class P:\n    def __reduce__(self):\n        import os\n        return (os.system, ('touch {outside}/new',))\nP()", OK, E),
    _py("input()", "input()", E),
    _py("catches BaseException", "while True:\n    try:\n        while True: pass\n    except BaseException: pass", T),
    _py("catches KeyboardInterrupt and sleeps", "import time\nwhile True:\n    try: time.sleep(100)\n    except BaseException: pass", T),
    _py("daemon child", "import os, time\nif os.fork() == 0:\n    os.setsid()\n    time.sleep(600)\n1", D, E),
    _py("deep recursion", "import sys\nsys.setrecursionlimit(10**9)\ndef f(n): return f(n + 1)\nf(0)", E, M, T),
    _py("deep brackets", "(" * 100000 + ")" * 100000, E, D, M),
    _py("deep result", "a = []\nfor _ in range(100000): a = [a]\na", E, OK, M),
    _py("huge result", "list(range(10**7))", L, M, T),
    _py("huge file", "f = open('big', 'wb')\nwhile True: f.write(b'x' * (1 << 20))", D, E, T),
    _py("mount", "import ctypes\nassert ctypes.CDLL(None).mount(b'none', b'/', b'tmpfs', 0, None) == 0", E, D),
    _py("new user namespace", "import ctypes\nassert ctypes.CDLL(None).unshare(0x10000000) == 0", E, D),
)  # fmt: skip

PANDAS = (
    _py("frame of a billion rows", "pd.concat([pd.DataFrame({{'a': range(10**6)}})] * 1000)", M, T, L, engine="pandas"),
    _py("equals patched", "pd.DataFrame.equals = lambda *a: True\npd.DataFrame.__eq__ = lambda *a: True\npd.DataFrame.copy = None\n1", OK, E, engine="pandas", value=1),
    _py("pandas reads a file", "pd.read_csv('/etc/passwd')", D, E, engine="pandas"),
    _py("pandas unpickles", "pd.read_pickle('{outside}/canary')", D, E, engine="pandas"),
    _py("pandas fetches", "pd.read_csv('http://127.0.0.1:{port}/x.csv')", D, E, engine="pandas"),
    _py("pandas eval escape", "pd.eval('@__import__(\"os\").system(\"touch {outside}/new\")')", E, D, OK, engine="pandas"),
)  # fmt: skip

DUCKDB = (
    Case("DuckDB reads a file", "duckdb", "SELECT * FROM read_text('/etc/passwd')", frozenset({D, E})),
    Case("DuckDB writes a file", "duckdb", "COPY t TO '{outside}/new.csv'", frozenset({D, E})),
    Case("DuckDB attaches", "duckdb", "ATTACH '{outside}/new.duckdb'", frozenset({D, E})),
    Case("DuckDB installs", "duckdb", "INSTALL httpfs", frozenset({D, E})),
    Case("DuckDB unlocks", "duckdb", "SET enable_external_access = true", frozenset({D, E})),
    Case("DuckDB deletes", "duckdb", "DELETE FROM t", frozenset({D, E})),
    Case("DuckDB two statements", "duckdb", "SELECT 1; DROP TABLE t", frozenset({D, E})),
    Case("DuckDB endless", "duckdb", "SELECT sum(a.range * b.range) FROM range(10000000) a, range(10000000) b", frozenset({T, M, E})),
    Case("DuckDB repeat bomb", "duckdb", "SELECT length(repeat('x', 4000000000))", frozenset({M, E, T, D})),
    Case("DuckDB 10 million rows", "duckdb", "SELECT * FROM range(10000000)", frozenset({L, T, M})),
)  # fmt: skip

MASHUP = (
    Case("M reads a file", "m", 'Text.FromBinary(File.Contents("/etc/passwd"))', frozenset({D, E, U})),
    Case("M reads the canary", "m", 'Text.FromBinary(File.Contents("{outside}/canary"))', frozenset({D, E, U})),
    Case("M fetches", "m", 'Web.Contents("http://127.0.0.1:{port}/")', frozenset({D, E, U})),
    Case("M deep recursion", "m", "let f = (n) => @f(n + 1) in f(0)", frozenset({E, U, T, M})),
    Case("M long list", "m", "List.Sum(List.Numbers(1, 1000000000))", frozenset({E, U, T, M})),
    Case("M missing step", "m", "let a = 1 in b", frozenset({E, U})),
    Case("M syntax error", "m", "let a = in a", frozenset({E})),
)

CASES = (*SQL, *PYTHON, *PANDAS, *DUCKDB, *MASHUP)
