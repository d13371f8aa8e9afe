"""When the packets of a probe go out, and what their answers come to."""

from __future__ import annotations

from itertools import pairwise
from statistics import fmean, pstdev
from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st

from vmib_agent.lifetimes import Lifetimes
from vmib_agent.probe_rounds import GAP, PATIENCE, Alarm, Course, Summary, judged, summary

ROUND_TRIPS = st.lists(st.integers(0, 10**10), max_size=100)
MS = 1_000_000
ANSWER_TIMES = st.integers(0, 79).map(lambda tenths: tenths / 10 + 0.05)
"""Seconds, none of them just where patience ends."""


def run(
    course: Course, answers: dict[int, float], until: float
) -> tuple[list[float], list[tuple[float, Summary]]]:
    """When packets go out and rounds end until some time; `answers` are packet -> seconds."""
    sent: list[float] = []
    ended: list[tuple[float, Summary]] = []
    arriving: list[tuple[float, int, float]] = []
    while True:
        now = min([course.due, *(at for at, _, _ in arriving)])
        if now > until:
            return sent, ended
        for at, number, began in sorted(arriving):
            if at <= now:
                arriving.remove((at, number, began))
                course.answered(number, round(at * 1e9), at)
        found = course.settle(now)
        if found is not None:
            ended.append((now, found))
        if course.may_send(now):
            number = course.number
            course.sent(now, round(now * 1e9))
            sent.append(now)
            if number in answers:
                arriving.append((now + answers[number], number, now))


@given(ROUND_TRIPS, st.integers(0, 100))
def test_a_summary_is_of_what_was_answered(round_trips: list[int], lost: int) -> None:
    sent = len(round_trips) + lost
    if not sent:
        return
    found = summary(round_trips, sent)
    assert found.loss == round(lost * 1_000_000 / sent)
    if not round_trips:
        assert found == Summary(loss=1_000_000)
        assert not found.has_answers
        return
    assert found.rtt_min == round(min(round_trips) / 1000)
    assert found.rtt_max == round(max(round_trips) / 1000)
    assert abs(found.rtt_avg - fmean(round_trips) / 1000) <= 1
    assert abs(found.rtt_std_dev - pstdev(round_trips) / 1000) <= 1
    assert found.rtt_min <= found.rtt_avg <= found.rtt_max


def test_a_round_is_spread_over_half_of_a_short_interval() -> None:
    course = Course(1, 100, 0.0, one_by_one=False)
    sent, ended = run(course, dict.fromkeys(range(100), 0.001), 0.9)
    assert len(sent) == 100
    assert 0.49 <= sent[-1] <= 0.5
    assert [found.loss for _, found in ended] == [0]


def test_packets_of_a_long_interval_are_a_tenth_of_a_second_apart() -> None:
    course = Course(60, 5, 0.0, one_by_one=False)
    sent, ended = run(course, dict.fromkeys(range(10), 0.02), 100.0)
    assert [round(at, 6) for at in sent[:5]] == [0.0, 0.1, 0.2, 0.3, 0.4]
    assert round(sent[5], 6) == 60.0
    assert len(ended) == 2


def test_a_round_without_answers_ends_when_patience_does() -> None:
    course = Course(60, 3, 0.0, one_by_one=False)
    _, ended = run(course, {}, 59.0)
    assert [(round(at, 6), found.loss) for at, found in ended] == [(2 * GAP + PATIENCE, 1_000_000)]


def test_patience_ends_with_the_interval() -> None:
    course = Course(1, 1, 0.0, one_by_one=False)
    _, ended = run(course, {0: 1.1, 1: 0.9}, 1.95)
    assert [found.loss for _, found in ended] == [1_000_000, 0]


def test_a_round_begins_not_before_the_last_one_has_ended() -> None:
    course = Course(1, 2, 0.0, one_by_one=False)
    sent, _ = run(course, {}, 3.0)
    assert [round(at, 6) for at in sent] == [0.0, 0.1, 1.1, 1.2, 2.2, 2.3]


def test_one_by_one_the_next_packet_waits_for_the_answer_and_as_long_again() -> None:
    course = Course(10, 3, 0.0, one_by_one=True)
    sent, ended = run(course, {0: 0.3, 1: 0.3}, 9.0)
    assert [round(at, 6) for at in sent] == [0.0, 0.6, 1.2]
    assert ended[0][1].loss == 333_333
    assert round(ended[0][0], 6) == 1.2 + PATIENCE


def test_an_answer_counts_once_and_only_in_time() -> None:
    course = Course(10, 2, 0.0, one_by_one=False)
    course.sent(0.0, 0)
    assert course.answered(0, 7 * MS, 0.007)
    assert not course.answered(0, 8 * MS, 0.008)
    course.sent(0.1, 100 * MS)
    assert not course.answered(1, 5_200 * MS, 5.2)
    assert not course.answered(9, 0, 0.2)
    assert course.settle(6.0) == Summary(7000, 7000, 7000, 0, 500_000)


def test_what_a_queue_refuses_is_lost_at_once() -> None:
    course = Course(10, 1, 0.0, one_by_one=False)
    course.sent(0.0, 0)
    course.refused()
    assert course.settle(0.0) == Summary(loss=1_000_000)
    assert course.due == 10.0


@given(
    st.integers(1, 30),
    st.integers(1, 20),
    st.booleans(),
    st.dictionaries(st.integers(0, 60), ANSWER_TIMES, max_size=60),
)
def test_every_packet_is_answered_or_lost(
    interval: int, count: int, one_by_one: bool, answers: dict[int, float]
) -> None:
    course = Course(interval, count, 0.0, one_by_one=one_by_one)
    sent, ended = run(course, answers, 3.0 * interval + 40)
    patience = min(PATIENCE, interval)
    for turn, (_, found) in enumerate(ended):
        numbers = range(turn * count, (turn + 1) * count)
        in_time = [answers[n] for n in numbers if n in answers and answers[n] < patience]
        assert found.loss == round((count - len(in_time)) * 1_000_000 / count)
        if in_time:
            assert abs(found.rtt_max - max(in_time) * 1e6) <= 1
    assert all(after - before >= 0 for before, after in pairwise(sent))


def test_a_threshold_is_crossed_upwards_above_it_and_downwards_below_nine_tenths() -> None:
    seen, alarm = [], Alarm()
    for average in (1000, 1001, 950, 900, 899, 1000):
        alarm = judged(alarm, Summary(rtt_avg=average), 1000, 0)
        seen.append(alarm.exceeded)
    assert seen == [False, True, True, True, False, False]


def test_a_round_without_answers_leaves_the_threshold_of_the_round_trip_alone() -> None:
    lost = Summary(loss=1_000_000)
    assert judged(Alarm(rtt=True), lost, 1000, 0).exceeded
    assert not judged(Alarm(), lost, 1000, 0).exceeded


def test_a_threshold_that_is_taken_away_is_not_exceeded() -> None:
    assert not judged(Alarm(rtt=True, loss=True), Summary(rtt_avg=5000, loss=7), 0, 0).exceeded


def test_loss_is_exceeded_above_its_threshold_alone() -> None:
    seen = [judged(Alarm(), Summary(loss=loss), 0, 200_000).exceeded for loss in (200_000, 200_001)]
    assert seen == [False, True]


def test_rows_end_when_their_lifetime_has_passed_since_they_changed() -> None:
    lifetimes = Lifetimes()
    rows = {(1,): SimpleNamespace(lifetime=5), (2,): SimpleNamespace(lifetime=0)}
    assert not lifetimes.ended(rows, 100.0)
    assert not lifetimes.ended(rows, 104.9)
    rows[1,] = SimpleNamespace(lifetime=5)
    assert not lifetimes.ended(rows, 105.0)
    assert lifetimes.ended(rows, 110.0) == {(1,)}
