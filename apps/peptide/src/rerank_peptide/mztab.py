"""Reranked identifications out and in: mzTab 1.0, CSV and JSONL.

Columns follow Casanovo 5.2 where it has them. ``search_engine_score[1]`` is the calibrated probability where the
method has one (else its score), ``search_engine_score[2]`` the method's score.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rerank_core.errors import InputError
from rerank_core.files import atomic_write, open_text
from rerank_core.types import FloatArray, Ranking
from rerank_peptide.data import PeptideRequest
from rerank_peptide.masses import PeptideError, modifications, mz, parse_peptide, plain, to_casanovo, to_proforma

VERSION = "1.0.0"
VALIDITY = (
    "probabilities and q-values hold only for data like the calibration set; validate on labelled spectra of your own"
)


@dataclass(frozen=True)
class Identification:
    """One candidate of one spectrum, ranked.

    Parameters
    ----------
    rank, first_rank
        Place after and before reranking, from 1.
    support
        One number a token: how well the spectrum supports the residue, 0 to 1.
    """

    index: int
    title: str
    tokens: tuple[str, ...]
    charge: int
    precursor_mz: float
    rank: int
    first_rank: int
    score: float | None
    probability: float | None
    q_value: float | None
    engines: tuple[str, ...]
    support: tuple[float, ...] = ()
    rmd: tuple[float, ...] = ()


def identifications(
    requests: Sequence[PeptideRequest],
    rankings: Sequence[Ranking],
    probabilities: Sequence[FloatArray | None],
    support: Mapping[tuple[str, str], Sequence[float]] | None = None,
    rmd: Mapping[tuple[str, str], Sequence[float]] | None = None,
    top: int | None = None,
) -> list[Identification]:
    """Flatten rankings; ``probabilities`` are in the requests' candidate order."""
    out: list[Identification] = []
    tops: list[float] = []
    for request, ranking, prob in zip(requests, rankings, probabilities, strict=True):
        at = {c.id: i for i, c in enumerate(request.candidates)}
        for place, item in enumerate(ranking.items[:top], 1):
            i = at[item.id]
            c, s = request.candidates[i], request.query
            p = None if prob is None else float(prob[i])
            key = (request.id, c.id)
            out.append(
                Identification(
                    s.index, s.title, c.content, s.charge, s.precursor_mz, place, i + 1, item.score, p, None,
                    tuple(k[5:] for k in c.features if k.startswith("rank:")),
                    tuple((support or {}).get(key, ())), tuple((rmd or {}).get(key, ())),
                )
            )  # fmt: skip
            if place == 1 and p is not None:
                tops.append(p)
    return with_q_values(out, np.array(tops))


def with_q_values(found: Sequence[Identification], tops: FloatArray) -> list[Identification]:
    """Give each top candidate its q-value: the smallest expected error rate of any list that holds it."""
    from dataclasses import replace

    if not tops.size:
        return list(found)
    order = np.sort(tops)[::-1]
    error = np.cumsum(1 - order) / np.arange(1, order.size + 1)
    q = np.minimum.accumulate(error[::-1])[::-1]
    # Equal probabilities share the q-value of the last of them.
    values = {p: float(q[np.flatnonzero(order == p)[-1]]) for p in np.unique(order)}
    return [replace(x, q_value=values[x.probability]) if x.rank == 1 and x.probability in values else x for x in found]


_COLUMNS = (
    "sequence", "PSM_ID", "accession", "unique", "database", "database_version", "search_engine",
    "search_engine_score[1]", "search_engine_score[2]", "modifications", "retention_time", "charge",
    "exp_mass_to_charge", "calc_mass_to_charge", "spectra_ref", "pre", "post", "start", "end",
    "opt_global_cv_MS:1003169_proforma_peptidoform_sequence", "opt_global_aa_scores", "opt_global_rmd",
    "opt_global_proposed_by", "opt_global_rank", "opt_global_first_rank", "opt_global_q_value", "opt_global_title",
)  # fmt: skip


def write(
    path: str | Path, found: Sequence[Identification], *, spectra: str, method: str, settings: Mapping[str, Any]
) -> None:
    """Write identifications as mzTab, CSV or JSONL, by the file's name."""
    name = Path(path).name.lower().removesuffix(".gz")
    if name.endswith(".jsonl"):
        _write_jsonl(path, found)
    elif name.endswith((".csv", ".tsv")):
        _write_csv(path, found, "\t" if name.endswith(".tsv") else ",")
    elif name.endswith(".mztab"):
        _write_mztab(path, found, spectra, method, settings)
    else:
        raise InputError("unknown output format; give .mztab, .csv, .tsv or .jsonl", path)


def _cell(value: Any) -> str:
    if value is None or value == "" or value == ():
        return "null"
    if isinstance(value, float):
        return f"{value:.8g}"
    return str(value).replace("\t", " ").replace("\n", " ")


def _write_mztab(
    path: str | Path, found: Sequence[Identification], spectra: str, method: str, settings: Mapping[str, Any]
) -> None:
    from importlib.metadata import version

    meta = [
        ("mzTab-version", VERSION), ("mzTab-mode", "Summary"), ("mzTab-type", "Identification"),
        ("description", f"de novo candidates reranked by rerank-peptide, method {method}; {VALIDITY}"),
        ("software[1]", f"[, , rerank-peptide, {version('rerank-peptide')}]"),
        ("psm_search_engine_score[1]", "[, , probability of the peptide (score where the method has none), ]"),
        ("psm_search_engine_score[2]", "[, , score of the method, ]"),
        ("fixed_mod[1]", "[UNIMOD, UNIMOD:4, Carbamidomethyl, ]"), ("fixed_mod[1]-site", "C"),
        ("variable_mod[1]", "[UNIMOD, UNIMOD:35, Oxidation, ]"), ("variable_mod[1]-site", "M"),
        ("ms_run[1]-location", Path(spectra).resolve().as_uri()),
        *((f"software[1]-setting[{i}]", f"{k} = {v}") for i, (k, v) in enumerate({"method": method, **settings}.items(), 1)),
    ]  # fmt: skip
    with atomic_write(path) as out:
        out.writelines(f"MTD\t{k}\t{_cell(v)}\n" for k, v in meta)
        out.write("PSH\t" + "\t".join(_COLUMNS) + "\n")
        for number, x in enumerate(found, 1):
            out.write("PSM\t" + "\t".join(_cell(v) for v in _psm(number, x)) + "\n")


def _psm(number: int, x: Identification) -> list[Any]:
    first = x.probability if x.probability is not None else x.score
    mods = ",".join(f"{p}-CHEMMOD:{d:+.6f}" for p, d in modifications(x.tokens))
    return [
        plain(x.tokens), number, None, None, None, None, "[, , rerank-peptide, ]", first, x.score, mods, None, x.charge,
        x.precursor_mz, mz(x.tokens, x.charge), f"ms_run[1]:index={x.index}", None, None, None, None,
        to_proforma(x.tokens), ",".join(f"{v:.3f}" for v in x.support), ",".join(f"{v:.3f}" for v in x.rmd),
        ";".join(x.engines), x.rank, x.first_rank, x.q_value, x.title,
    ]  # fmt: skip


def _flat(x: Identification) -> dict[str, Any]:
    return {
        "spectrum_index": x.index, "title": x.title, "rank": x.rank, "sequence": to_casanovo(x.tokens),
        "proforma": to_proforma(x.tokens), "charge": x.charge, "precursor_mz": x.precursor_mz,
        "calc_mz": round(mz(x.tokens, x.charge), 6), "score": x.score, "probability": x.probability,
        "q_value": x.q_value, "first_rank": x.first_rank, "proposed_by": ";".join(x.engines),
        "aa_scores": list(x.support), "rmd": list(x.rmd),
    }  # fmt: skip


def _write_jsonl(path: str | Path, found: Sequence[Identification]) -> None:
    with atomic_write(path) as out:
        out.writelines(json.dumps(_flat(x), ensure_ascii=False) + "\n" for x in found)


def _write_csv(path: str | Path, found: Sequence[Identification], delimiter: str) -> None:
    with atomic_write(path) as out:
        rows = [_flat(x) for x in found]
        writer = csv.writer(out, delimiter=delimiter, lineterminator="\n")
        writer.writerow(list(rows[0]) if rows else ["spectrum_index", "sequence"])
        for row in rows:
            writer.writerow(
                [
                    ",".join(f"{v:.3f}" for v in x) if isinstance(x, list) else "" if x is None else x
                    for x in row.values()
                ]
            )


@dataclass(frozen=True)
class Prediction:
    """One read-back row: what evaluation needs."""

    tokens: tuple[str, ...]
    rank: int
    first_rank: int
    score: float
    probability: float | None


def read_predictions(path: str | Path) -> dict[str, list[Prediction]]:
    """Read a result file into spectrum id -> predictions by rank.

    mzTab of any engine works; only this program's files carry first-stage ranks and probabilities.

    Raises
    ------
    InputError
        When the file is no mzTab or JSONL of identifications.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError("no such result file", path)
    rows = _jsonl_rows(path) if path.name.lower().removesuffix(".gz").endswith(".jsonl") else _mztab_rows(path)
    found: dict[str, list[Prediction]] = {}
    for key, prediction in rows:
        found.setdefault(key, []).append(prediction)
    for predictions in found.values():
        predictions.sort(key=lambda p: p.rank)
    return found


def _jsonl_rows(path: Path) -> list[tuple[str, Prediction]]:
    from rerank_core.files import read_jsonl

    out = []
    for line, row in read_jsonl(path):
        try:
            p = row.get("probability")
            score = row.get("score")
            out.append(
                (
                    str(row["spectrum_index"]),
                    Prediction(
                        parse_peptide(row["proforma"]), int(row["rank"]), int(row.get("first_rank") or row["rank"]),
                        float("nan") if score is None else float(score), None if p is None else float(p),
                    ),
                )
            )  # fmt: skip
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"no identification: {error}", path, line) from error
    return out


def _mztab_rows(path: Path) -> list[tuple[str, Prediction]]:
    from rerank_peptide.tables import read_candidates

    ours: list[tuple[str, Prediction]] = []
    header: list[str] = []
    with open_text(path) as lines:
        for number, line in enumerate(lines, 1):
            cells = line.rstrip("\r\n").split("\t")
            if cells[0] == "PSH":
                header = cells
                if "opt_global_first_rank" not in header:
                    break
            elif cells[0] == "PSM":
                row = dict(zip(header, cells, strict=False))
                try:
                    ours.append(_ours(row))
                except (KeyError, ValueError, PeptideError) as error:
                    raise InputError(f"damaged PSM row: {error}", path, number) from error
    if ours or "opt_global_first_rank" in header:
        return ours
    out = []
    for hit in read_candidates(path, "engine").hits:
        score = float("nan") if hit.score is None else hit.score
        out.append((hit.key[1], Prediction(hit.tokens, hit.rank, hit.rank, score, None)))
    return out


def _ours(row: Mapping[str, str]) -> tuple[str, Prediction]:
    def number(name: str) -> float:
        value = row[name]
        return float("nan") if value == "null" else float(value)

    score = number("search_engine_score[2]")
    probability = number("search_engine_score[1]") if row.get("opt_global_q_value", "null") != "null" else None
    if probability is None and row["opt_global_rank"] != "1":
        probability = number("search_engine_score[1]")
    tokens = parse_peptide(row["opt_global_cv_MS:1003169_proforma_peptidoform_sequence"])
    index = row["spectra_ref"].rpartition("=")[2]
    return index, Prediction(tokens, int(row["opt_global_rank"]), int(row["opt_global_first_rank"]), score, probability)
