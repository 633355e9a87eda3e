from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rerank_peptide.masses import (
    TOKEN_MASSES,
    PeptideError,
    fold,
    is_terminal,
    mz,
    parse_peptide,
    peptide_mass,
    plain,
    residue_masses,
    to_casanovo,
    to_proforma,
)

RESIDUES = [t for t in TOKEN_MASSES if not is_terminal(t)]
TERMINI = ["", *(t for t in TOKEN_MASSES if is_terminal(t))]
peptides = st.builds(
    lambda head, body: (head, *body) if head else tuple(body),
    st.sampled_from(TERMINI),
    st.lists(st.sampled_from(RESIDUES), min_size=1, max_size=30),
)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("+42.011PEM+15.995K", ("+42.011", "P", "E", "M+15.995", "K")),
        ("[UNIMOD:1]-PEM[UNIMOD:35]K", ("+42.011", "P", "E", "M+15.995", "K")),
        ("[Acetyl]-PEM[Oxidation]K", ("+42.011", "P", "E", "M+15.995", "K")),
        ("PEM(+15.99)C(+57.02)K", ("P", "E", "M+15.995", "C+57.021", "K")),
        ("N(+.98)Q(+.98)K", ("N+0.984", "Q+0.984", "K")),
        ("P,E,Mmod,Cmod,K", ("P", "E", "M+15.995", "C+57.021", "K")),
        ("[+43.006-17.027]-AEK", ("+43.006-17.027", "A", "E", "K")),
        ("+43.006-17.027AEK", ("+43.006-17.027", "A", "E", "K")),
        ("C[+57.021]EAC[+57.021]K", ("C+57.021", "E", "A", "C+57.021", "K")),
        ("PEPCK/2", ("P", "E", "P", "C+57.021", "K")),
        ("S[UNIMOD:21]K", ("S+79.966", "K")),
    ],
)
def test_every_dialect_reads_the_same(text: str, tokens: tuple[str, ...]) -> None:
    assert parse_peptide(text) == tokens


@pytest.mark.parametrize(
    "text", ["", "null", "PEB", "PEXK", "PEUK", "PEZ", "PE[UNIMOD:99999]K", "PE[", "pek", "M[Wonder]K"]
)
def test_what_is_no_peptide_says_why(text: str) -> None:
    with pytest.raises(PeptideError) as error:
        parse_peptide(text)
    assert "\n" not in str(error.value)


def test_bare_cysteine_is_carbamidomethylated_and_free_cysteine_can_be_said() -> None:
    assert parse_peptide("ACK") == ("A", "C+57.021", "K")
    assert peptide_mass(parse_peptide("AC[+0]K")) == pytest.approx(
        peptide_mass(parse_peptide("ACK")) - 57.021464, abs=1e-5
    )


@settings(deadline=None)
@given(peptides)
def test_proforma_and_casanovo_style_round_trip(tokens: tuple[str, ...]) -> None:
    assert parse_peptide(to_proforma(tokens)) == tokens
    assert parse_peptide(to_casanovo(tokens)) == tokens


@settings(deadline=None)
@given(peptides, st.integers(1, 4))
def test_masses_agree_with_pyteomics(tokens: tuple[str, ...], charge: int) -> None:
    from pyteomics import mass

    body = plain(tokens)
    deltas = {"C+57.021": 57.021464, "M+15.995": 15.994915, "N+0.984": 0.984016, "Q+0.984": 0.984016}
    expected = mass.fast_mass(body, charge=charge) * charge + sum(
        deltas.get(t, TOKEN_MASSES[t] if is_terminal(t) else 0.0) for t in tokens
    )
    assert mz(tokens, charge) * charge == pytest.approx(expected, abs=2e-3)
    assert residue_masses(tokens).size == len(body)


def test_proforma_is_readable_by_pyteomics() -> None:
    from pyteomics import proforma

    sequence, properties = proforma.parse(to_proforma(parse_peptide("+42.011PEM+15.995K")))
    assert [r for r, _ in sequence] == list("PEMK")
    assert properties["n_term"]


def test_folding_joins_isoleucine_and_leucine_only() -> None:
    assert fold(parse_peptide("PEIK")) == fold(parse_peptide("PELK"))
    assert fold(parse_peptide("PENK")) != fold(parse_peptide("PEDK"))
