"""Protein sequences: a few textbook ones for the embedded sample, FASTA files, digestion."""

from __future__ import annotations

import gzip
import random
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from rerank_core.errors import InputError
from rerank_peptide.masses import RESIDUES

TEXTBOOK: Final[dict[str, str]] = {
    "ubiquitin, human": ("MQIFVKTLTGKTITLEVEPSDTIENVKAKIQDKEGIPPDQQRLIFAGKQLEDGRTLSDYNIQKESTLHLVLRLRGG"),
    "lysozyme C, chicken": (
        "KVFGRCELAAAMKRHGLDNYRGYSLGNWVCAAKFESNFNTQATNRNTDGSTDYGILQINSRWWCNDGRTPGSRNLCNIPCSALLSSDITASVNCAKKIVSDGNG"
        "MNAWVAWRNRCKGTDVQAWIRGCRL"
    ),
    "haemoglobin alpha, human": (
        "VLSPADKTNVKAAWGKVGAHAGEYGAEALERMFLSFPTTKTYFPHFDLSHGSAQVKGHGKKVADALTNAVAHVDDMPNALSALSDLHAHKLRVDPVNFKLLSHC"
        "LLVTLAAHLPAEFTPAVHASLDKFLASVSTVLTSKYR"
    ),
    "haemoglobin beta, human": (
        "VHLTPEEKSAVTALWGKVNVDEVGGEALGRLLVVYPWTQRFFESFGDLSTPDAVMGNPKVKAHGKKVLGAFSDGLAHLDNLKGTFATLSELHCDKLHVDPENFR"
        "LLGNVLVCVLAHHFGKEFTPPVQAAYQKVVAGVANALAHKYH"
    ),
    "myoglobin, horse": (
        "GLSDGEWQQVLNVWGKVEADIAGHGQEVLIRLFTGHPETLEKFDKFKHLKTEAEMKASEDLKKHGTVVLTALGGILKKKGHHEAELKPLAQSHATKHKIPIKYL"
        "EFISDAIIHVLHSKHPGDFGADAQGAMTKALELFRNDIAAKYKELGFQG"
    ),
    "cytochrome c, horse": (
        "GDVEKGKKIFVQKCAQCHTVEKGGKHKTGPNLHGLFGRKTGQAPGFTYTDANKNKGITWKEETLMEYLENPKKYIPGTKMIFAGIKKKTEREDLIAYLKKATNE"
    ),
    "serum albumin, bovine": (
        "DTHKSEIAHRFKDLGEEHFKGLVLIAFSQYLQQCPFDEHVKLVNELTEFAKTCVADESHAGCEKSLHTLFGDELCKVASLRETYGDMADCCEKQEPERNECFLS"
        "HKDDSPDLPKLKPDPNTLCDEFKADEKKFWGKYLYEIARRHPYFYAPELLYYANKYNGVFQECCQAEDKGACLLPKIETMREKVLASSARQRLRCASIQKFGER"
        "ALKAWSVARLSQKFPKAEFVEVTKLVTDLTKVHKECCHGDLLECADDRADLAKYICDNQDTISSKLKECCDKPLLEKSHCIAEVEKDAIPENLPPLTADFAEDK"
        "DVCKNYQEAKDAFLGSFLYEYSRRHPEYAVSVLLRLAKEYEATLEECCAKDDPHACYSTVFDKLKHLVDEPQNLIKQNCDQFEKLGEYGFQNALIVRYTRKVPQ"
        "VSTPTLVEVSRSLGKVGTRCCTKPESERMPCTEDYLSLILNRLCVLHEKTPVSEKVTKCCTESLVNRRPCFSALTPDETYVPKAFDEKLFTFHADICTLPDTEK"
        "QIKKQTALVELLKHKPKATEEQLKTVMENFVAFVDKCCAADDKEACFAVEGPKLVVSTQTALA"
    ),
    "beta-casein, bovine": (
        "RELEELNVPGEIVESLSSSEESITRINKKIEKFQSEEQQQTEDELQDKIHPFAQTQSLVYPFPGPIPNSLPQNIPPLTQTPVVVPPFLQPEVMGVSKVKEAMAP"
        "KHKEMPFPKYPVEPFTESQSLTLTDVENLHLPLPLLQSWMHQPHQPLPPTVMFPPQSVLSLSQSKVLPVPQKAVPYPQRDMPIQAFLLYQEPVLGPVRGPFPII"
        "V"
    ),
    "alpha-S1-casein, bovine": (
        "RPKHPIKHQGLPQEVLNENLLRFFVAPFPEVFGKEKVNELSKDIGSESTEDQAMEDIKQMEAESISSSEEIVPNSVEQKHIQKEDVPSERYLGYLEQLLRLKKY"
        "KVPQLEIVPNSAEERLHSMKEGIHAQQKEPMIGVNQELAYFYPELFRQFYQLDAYPSGAWYYVPLGTQYTDAPSFSDIPNPIGSENSEKTTMPLW"
    ),
}
"""Mature chains of proteins every proteomics laboratory knows; public facts."""


def read_fasta(path: str | Path) -> list[tuple[str, str]]:
    """Read (name, sequence) pairs, gzipped or not.

    Raises
    ------
    InputError
        When the file is absent or holds no sequence.
    """
    from pyteomics import fasta

    path = Path(path)
    if not path.is_file():
        raise InputError("no such FASTA file", path)
    opener: Any = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8") as text, fasta.FASTA(text) as reader:
        proteins = [(d.split()[0] if d.split() else str(i), s.upper()) for i, (d, s) in enumerate(reader)]
    if not proteins or not any(s for _, s in proteins):
        raise InputError("no protein sequence found; a FASTA file has '>name' lines", path)
    return proteins


def digest(
    proteins: Iterable[tuple[str, str]], *, missed: int = 1, shortest: int = 7, longest: int = 30
) -> list[tuple[str, str]]:
    """Cut proteins with trypsin.

    Returns
    -------
    Sorted (peptide, protein) pairs, each peptide once, under the first protein that holds it; peptides with
    non-standard residues are left out.
    """
    from pyteomics import parser

    owner: dict[str, str] = {}
    standard = set(RESIDUES)
    for name, sequence in proteins:
        for peptide in parser.cleave(sequence, "trypsin", missed_cleavages=missed, min_length=shortest):
            if len(peptide) <= longest and set(peptide) <= standard:
                owner.setdefault(peptide, name)
    return sorted(owner.items())


def modify(peptides: Sequence[str], rng: random.Random) -> list[str]:
    """Put modifications on at the usual rates: M oxidised 30 %, N and Q deamidated 2 %, N-terminus modified 1 %."""
    out = []
    for peptide in peptides:
        text = "".join(
            "M+15.995" if r == "M" and rng.random() < 0.3 else f"{r}+0.984" if r in "NQ" and rng.random() < 0.02 else r
            for r in peptide
        )
        if rng.random() < 0.01:
            text = rng.choice(("+42.011", "+43.006", "-17.027")) + text
        out.append(text)
    return out
