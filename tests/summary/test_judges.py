"""Judges: the tolerant parser, FairEval's calibration, agreement with people."""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rerank_core.errors import InputError
from rerank_summary import asking, faireval, transcripts
from rerank_summary.verdicts import official_fairevals_parse, parse_choice, parse_scores

Find = Callable[[str], Path]
score = st.integers(0, 10)


@pytest.mark.shared_data
def test_released_parser_and_calibration_equal_the_oracle(shared_data: Find) -> None:
    oracle = json.loads(shared_data("summary/oracle/faireval.json").read_text())
    for case in oracle["parse"]:
        assert list(official_fairevals_parse(case["review"])) == case["official"]
        if case["official"] != [-1, -1]:
            assert list(parse_scores(case["review"]).scores or ()) == case["official"]
    for case in oracle["mec_bpc_bpde"]:
        found = faireval.calibrate(
            [tuple(x) for x in case["order_AB"]], [tuple(x) for x in case["order_BA_as_printed"]]
        )
        assert found.scores == pytest.approx(case["calibrated"], abs=1e-12)
        assert found.verdict == case["verdict_A"]
        assert found.bpde == pytest.approx(case["bpde_nat_log"], abs=1e-12)


@pytest.mark.shared_data
def test_every_recorded_reply_is_read_or_abstains_with_a_reason(shared_data: Find) -> None:
    path = shared_data("summary/faireval/fastchat_reviews.jsonl.gz")
    with gzip.open(path, "rt") as file:
        rows = [json.loads(x) for x in file]
    differ = []
    for row in rows:
        found = parse_scores(row["review"])
        assert found.scores is not None or found.reason
        theirs = tuple(row["score_field"])
        if found.scores != theirs and not (found.scores is None and theirs == (-1, -1)):
            differ.append((row["question_id"], found.scores, theirs))
    assert len(rows) == 320
    # one reply says "9/10" twice while the file's own parse has 8 and 8: the text is what counts
    assert differ == [(65, (9.0, 9.0), (8, 8))]


@pytest.mark.shared_data
def test_judges_against_people(shared_data: Find) -> None:
    replies, choices = transcripts.read_transcripts(shared_data("summary/faireval/fastchat_reviews.jsonl.gz"))
    human = transcripts.read_human(shared_data("summary/faireval/vicuna80.jsonl.gz"))
    assert not choices
    reports = {r.name: r for r in transcripts.judge_reports(replies, human)}
    gpt4 = reports["gpt-4: gpt35 vs vicuna-13b"]
    first_line, tolerant = gpt4.agreement["first-line"], gpt4.agreement["tolerant"]
    assert (first_line.accuracy, first_line.kappa) == pytest.approx((0.4875, 0.184), abs=5e-4)
    assert first_line.abstained == 3 and tolerant.abstained == 0 and tolerant.accuracy == 0.525
    itself = reports["gpt-3.5-turbo: vicuna-13b-new vs vicuna-13b-new"]
    assert itself.bias.sentence == "second position preferred 10:0 (binomial p=.002)"
    assert not itself.agreement  # nobody can be right about identical answers
    assert not reports["gpt-3.5-turbo: gpt35 vs vicuna-13b-new"].agreement  # another checkpoint than people judged


@pytest.mark.shared_data
def test_pandalm_judges(shared_data: Find) -> None:
    _, choices = transcripts.read_transcripts(shared_data("summary/pandalm/pandalm_testset.jsonl.gz"))
    reports = {r.judge: r for r in transcripts.choice_reports(choices)}
    panda, gpt = reports["pandalm7b"].agreement["majority"], reports["gpt35"].agreement["majority"]
    assert (panda.n, panda.accuracy, panda.kappa) == pytest.approx((999, 0.6677, 0.4354), abs=1e-4)
    assert (gpt.n, gpt.accuracy, gpt.kappa) == pytest.approx((999, 0.6977, 0.4755), abs=1e-4)
    assert gpt.abstained == 25 and 0 < gpt.macro_f1 < 1
    assert reports["gpt35"].bias.first + reports["gpt35"].bias.second + reports["gpt35"].bias.ties == 974


@pytest.mark.parametrize(
    ("reply", "scores"),
    [
        ("8 7\nBoth are fine.", (8, 7)),
        ("8.5, 9\n", (8.5, 9)),
        ("9/10 8/10", (9, 8)),
        ("Evidence.\nScore of Assistant 1: 9/10\nScore of Assistant 2: 8\n\n", (9, 8)),
        ("**Score of Assistant 1**: 7\n**Score of Assistant 2**: 6", (7, 6)),
        ("Assistant 1: f(2) = 5(2) - 3\nAssistant 2: 40 - 1\nScores:\nAssistant 1: 10\nAssistant 2: 6\nDone.", (10, 6)),
        ("I would give Assistant 1 a score of 8 and Assistant 2 a score of 9.", (8, 9)),
        ("In conclusion the scores are (1, 5) for Assistant 1 and Assistant 2.", (1, 5)),
        ("Therefore, both assistants receive a score of 10.", (10, 10)),
    ],
)
def test_forms_of_replies(reply: str, scores: tuple[float, float]) -> None:
    assert parse_scores(reply).scores == scores


@pytest.mark.parametrize(
    "reply", ["", "   \n", "I cannot decide.", "99 98", "Assistant 1: 8", "Question 3 has 2 parts."]
)
def test_abstentions_say_why(reply: str) -> None:
    found = parse_scores(reply)
    assert found.scores is None and found.outcome is None and found.reason and found.how == "abstained"


@given(st.text(max_size=200))
def test_the_parser_never_fails(reply: str) -> None:
    found = parse_scores(reply)
    assert (found.scores is None) == bool(found.reason)
    parse_choice(reply)


@given(score, score)
def test_whatever_the_prompt_asks_for_is_read(a: int, b: int) -> None:
    assert parse_scores(f"They differ.\nScore of Assistant 1: {a}\nScore of Assistant 2: {b}").scores == (a, b)
    assert parse_scores(f"{a} {b}\nBecause.", strict=True).scores == (a, b)


@given(st.lists(st.tuples(score, score), min_size=1, max_size=6), st.lists(st.tuples(score, score), max_size=6))
def test_calibration_is_fair_to_both_answers(forward: list, backward: list) -> None:
    one = faireval.calibrate(forward, backward)
    other = faireval.calibrate(backward, forward)  # the same replies from the other answer's side
    assert one.scores == pytest.approx((other.scores[1], other.scores[0]))
    assert one.verdict == faireval.flip(other.verdict)
    assert one.bpde == pytest.approx(other.bpde) and 0 <= one.bpde <= math.log(3) + 1e-12


def test_abstentions_are_counted_and_do_not_weigh() -> None:
    found = faireval.calibrate([(9.0, 1.0), None, (9.0, 1.0)], [(9.0, 1.0)])
    assert found.abstained == 1 and found.scores == (5, 5) and found.verdict == "tie" and found.conflict is True
    nothing = faireval.calibrate([None], [None])
    assert nothing.verdict is None and nothing.abstained == 2 and nothing.bpde == 0


def test_people_decide_where_doubt_is_highest() -> None:
    bpde = {str(i): i / 10 for i in range(10)}
    assert faireval.most_doubtful(bpde, 0.2) == ["9", "8"]
    verdicts = dict.fromkeys(bpde, "win")
    helped = faireval.with_humans(verdicts, bpde, dict.fromkeys(bpde, "lose"), 0.2)
    assert [k for k, v in helped.items() if v == "lose"] == ["8", "9"]


def test_kappa_and_macro_f1_equal_scikit_learns_by_hand() -> None:
    a = ["win", "win", "tie", "lose", "lose", "win"]
    b = ["win", "tie", "tie", "lose", "win", "win"]
    assert faireval.cohen_kappa(a, b) == pytest.approx((4 / 6 - (9 + 2 + 2) / 36) / (1 - 13 / 36))
    assert faireval.macro_f1(a, b) == pytest.approx((2 * 2 / 6 + 2 / 3 + 2 / 3) / 3)
    assert faireval.agreement([None, "win"], ["win", "win"]).accuracy == 0.5
    assert faireval.agreement([None, "win"], ["win", "win"], abstention="skip").accuracy == 1


def test_position_bias_is_tested_without_ties() -> None:
    bias = faireval.position_bias(["win"] * 8 + ["tie"] * 50 + [None], identical=True)
    assert (bias.first, bias.ties, bias.second) == (8, 50, 0) and bias.p == pytest.approx(2 / 256)
    assert "first position preferred 8:0" in bias.sentence
    assert "neither" in faireval.position_bias([]).sentence


def test_replies_in_both_orders_are_calibrated_together(tmp_path: Path) -> None:
    rows = [
        {"judge": "j", "question_id": 1, "model_1": "a", "model_2": "b", "review": "9 5"},
        {"judge": "j", "question_id": 1, "model_1": "b", "model_2": "a", "review": "9 6"},
        {"judge": "j", "question_id": 2, "model_1": "a", "model_2": "b", "review": "no idea"},
        {"judge": "j", "question_id": 2, "model_1": "b", "model_2": "a", "review": "2 8"},
    ]
    path = tmp_path / "r.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    human = tmp_path / "h.jsonl"
    human.write_text(
        '{"question_id": 1, "model_1": "b", "model_2": "a", "human": "lose"}\n{"question_id": 2, "human_a_vs_b": "win"}'
    )
    replies, _ = transcripts.read_transcripts(path)
    (report,) = transcripts.judge_reports(replies, transcripts.read_human(human))
    assert report.pairs["1"].scores == (7.5, 7) and report.pairs["1"].conflict is True
    assert report.pairs["2"].scores == (8, 2) and report.pairs["2"].abstained == 1
    assert report.conflict_rate == 1.0
    assert report.agreement["calibrated"].accuracy == 1.0
    doubtful = tmp_path / "d.jsonl"
    assert transcripts.write_doubtful(doubtful, [report], 0.5) == 1
    assert json.loads(doubtful.read_text())["question_id"] == "1"
    measures = {r["measure"] for r in transcripts.rows_of([report])}
    assert measures == {"accuracy", "first_position_share", "conflict_rate", "read"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"x": 1}', "neither a 'review'"),
        ('{"review": 3, "question_id": 1, "model_1": "a", "model_2": "b"}', "'review' must be text"),
        ('{"review": "9 8", "question_id": 1}', "'model_1' is missing"),
        ("", "holds no recorded replies"),
    ],
)
def test_bad_transcripts(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "r.jsonl"
    path.write_text(content)
    with pytest.raises(InputError, match=message):
        transcripts.read_transcripts(path)


def test_bad_human_labels(tmp_path: Path) -> None:
    path = tmp_path / "h.jsonl"
    path.write_text('{"question_id": 1, "human_a_vs_b": "maybe"}')
    with pytest.raises(InputError, match="'maybe' is none of win, tie, lose"):
        transcripts.read_human(path)
    path.write_text('{"question_id": 1}')
    with pytest.raises(InputError, match="no human labels"):
        transcripts.read_human(path)


class Parrot:
    """A back end that prefers whatever it is shown first: the judge that calibration is for."""

    name = "parrot"

    def generate(self, prompts, sampling):
        from rerank_lm.backends.base import Completion

        return [Completion("First it is.\nScore of Assistant 1: 9\nScore of Assistant 2: 4") for _ in prompts]


def test_asking_both_orders_turns_a_biased_judge_into_ties() -> None:
    rows = [{"question_id": i, "question": "Why?", "answers": {"a": "x", "b": "y"}} for i in range(3)]
    replies = asking.ask(Parrot(), rows, ("a", "b"), samples=2)
    assert len(replies) == 12
    parsed = []
    for r in replies:
        verdict = parse_scores(r["review"])
        parsed.append(
            transcripts.Reply(r["judge"], str(r["question_id"]), r["model_1"], r["model_2"], verdict, verdict)
        )
    (report,) = transcripts.judge_reports(parsed)
    assert {c.verdict for c in report.pairs.values()} == {"tie"} and report.conflict_rate == 1
    assert report.bias.first == 12
    vanilla = asking.ask(Parrot(), rows, ("a", "b"), vanilla=True)
    assert len(vanilla) == 3
