"""`make crowd` sees what it looks for: each verdict on made-up ledgers, and small crowds on real stacks."""

import json
import re
import signal
import subprocess
import sys
import time
from argparse import ArgumentTypeError
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from redis import Redis

from shared.dev.redis_server import RedisServer
from shared.line.keys import Keys
from tests.crowd import options
from tests.crowd.judge import MARGIN, STREAM_POLL, WORTH, judge, lost, overtakings, promises, rises, too_many
from tests.crowd.ledger import End, Ledger, Story, Told
from tests.crowd.page import page
from tests.crowd.report import report, text
from tests.support.paths import ROOT
from tests.support.processes import Api
from tests.support.settings import ADMIN_KEY

ENDED = 1000.0
ENTER = 0.5


def story(number: int, *, polls: float = 5.0, admitted: float | None = None, **known: Any) -> Story:
    """Somebody who joined at their number's second, polled until it was their turn, and came in ENTER later."""
    end = ENDED if admitted is None else admitted
    told, at = [Told(end - ENTER, 1, waiting=False)], end - ENTER
    while (at := at - polls) > number:
        told.append(Told(at, 10))
    values: dict[str, Any] = {"joined": float(number), "steady_since": float(number), "told": told[::-1]}
    values |= {"until": admitted, "admitted": admitted, "end": End.WAITING if admitted is None else End.ADMITTED}
    return Story(number, ticket=1000 + number, **(values | known))


def ledger(*stories: Story, **known: Any) -> Ledger:
    return Ledger(stories=list(stories), ended=ENDED, **known)


# Overtaken


def test_who_comes_in_a_poll_after_those_behind_is_not_overtaken() -> None:
    first, second = story(1, admitted=100 + 5 + ENTER + MARGIN), story(2, admitted=100)
    assert overtakings([first, second], ENDED) == []


def test_who_comes_in_later_than_that_is_overtaken() -> None:
    found = overtakings([story(1, admitted=108), story(2, admitted=100), story(3, admitted=99)], ENDED)
    assert [(one.number, one.by) for one in found] == [(1, 2)]
    assert found[0].late == pytest.approx(108 - 5 - ENTER - MARGIN - 99)
    assert found[0].answers[-2:] == [(102.5, 10, True), (107.5, 1, False)]


def test_everybody_who_overtakes_is_counted_once() -> None:
    people = [story(1, admitted=130), *(story(number, admitted=80.0 + 5 * number) for number in range(2, 7))]
    assert [(one.number, one.by) for one in overtakings(people, ENDED)] == [(1, 5)]


def test_somebody_present_who_is_never_let_in_is_overtaken() -> None:
    assert [one.number for one in overtakings([story(1), story(2, admitted=100)], ENDED)] == [1]


def test_who_was_away_when_those_behind_came_in_is_not_overtaken() -> None:
    assert overtakings([story(1, admitted=200, steady_since=101), story(2, admitted=100)], ENDED) == []
    # Back at 101, and overtaken since.
    again = [story(1, admitted=200, steady_since=101), story(2, admitted=100), story(3, admitted=150)]
    assert [(one.number, one.by) for one in overtakings(again, ENDED)] == [(1, 1)]


def test_who_has_given_up_is_not_overtaken() -> None:
    assert overtakings([story(1, until=101.0, end=End.LEFT), story(2, admitted=100)], ENDED) == []


def test_a_long_poll_excuses_as_much_as_it_lasted() -> None:
    told = [Told(90, 10), Told(120, 1)]
    assert overtakings([story(1, admitted=120.5, told=told), story(2, admitted=95)], ENDED) == []
    told = [Told(90, 10), Told(94, 10), Told(104, 10), Told(106, 1), Told(120, 1)]
    assert overtakings([story(1, admitted=120.5, told=told), story(2, admitted=95)], ENDED) != []


def test_a_long_poll_excuses_nothing_later() -> None:
    told = [Told(60, 10), Told(90, 10), *(Told(at, 10) for at in range(92, 118, 2)), Told(120, 1)]
    stories = [story(1, admitted=120.5, told=told), story(2, admitted=70), story(3, admitted=110)]
    assert [(one.by, one.overtaken_at) for one in overtakings(stories[:2], ENDED)] == [(1, 70)]
    stories[1].admitted = 89.0
    # But somebody who came in before it is excused by a later one.
    later = [Told(60, 10), Told(64, 10), Told(84, 1, waiting=False)]
    assert overtakings([story(1, admitted=84.5, told=later), story(2, admitted=62.5)], ENDED) == []
    assert [(one.by, one.overtaken_at) for one in overtakings(stories, ENDED)] == [(1, 110)]


def test_who_listens_has_no_poll_that_excuses() -> None:
    quiet = story(1, admitted=100 + 5 + ENTER + MARGIN, listens=True)
    assert [one.number for one in overtakings([quiet, story(2, admitted=100)], ENDED)] == [1]
    quiet.told[-1].age = 5 - STREAM_POLL
    assert overtakings([quiet, story(2, admitted=100)], ENDED) == []
    untold = story(1, told=[Told(90, 10)], listens=True)
    assert [one.number for one in overtakings([untold, story(2, admitted=100)], ENDED)] == [1]


def test_an_outage_is_nobodys_overtaking() -> None:
    stories = [story(1, admitted=120), story(2, admitted=100)]
    assert overtakings(stories, ENDED, [(101.0, 119.0)]) == []
    assert overtakings(stories, ENDED, [(50.0, 99.0)]) != []


# Lost, and let in twice


def test_who_kept_asking_and_has_no_place_is_lost() -> None:
    assert lost(ledger(story(1, admitted=10), story(2, end=End.LEFT), story(3, end=End.EXPIRED))) == []
    assert len(lost(ledger(story(1, end=End.LOST)))) == 1


def test_who_never_came_in_is_lost_unless_it_was_stopped() -> None:
    people = [story(1), Story(2), story(3, end=End.NEVER_ENTERED)]
    assert len(lost(ledger(*people))) == 2
    assert lost(ledger(*people, interrupted=True)) == []


def test_a_ticket_has_one_person_and_a_person_one_ticket() -> None:
    seen = Ledger()
    one, other = Story(1), Story(2)
    seen.give(one, 77, 1.0)
    seen.give(one, 77, 2.0)
    assert seen.doubles == []
    seen.give(other, 77, 3.0)
    seen.give(one, 78, 4.0)
    assert len(seen.doubles) == 2


def test_who_is_let_in_again_with_another_ticket_is_in_twice() -> None:
    seen, one = Ledger(), Story(1)
    seen.admit(one, 77, 5_000, 5.0)
    seen.admit(one, 77, 5_000, 6.0)
    assert seen.doubles == []
    seen.admit(one, 78, 7_000, 7.0)
    assert len(seen.doubles) == 1


def test_the_servers_totals_are_no_higher_than_what_people_know() -> None:
    people = [story(1, admitted=10), story(2)]
    assert too_many(ledger(*people)) == []
    assert too_many(ledger(*people, totals={"joined": 2, "admitted": 1})) == []
    assert len(too_many(ledger(*people, totals={"joined": 3, "admitted": 2}))) == 2
    unsure = [story(1, admitted=10), story(2, unsure_entry=True), Story(3, unsure_join=True)]
    assert too_many(ledger(*unsure, totals={"joined": 3, "admitted": 2})) == []
    # The first page of somebody may have let them in without their knowing.
    unsure = [story(1, admitted=10, unsure_walk_ins=1), story(2)]
    assert too_many(ledger(*unsure, totals={"joined": 3, "admitted": 2})) == []
    assert len(too_many(ledger(*unsure, totals={"joined": 4, "admitted": 3}))) == 2


def test_no_more_are_inside_than_may_be() -> None:
    assert judge(ledger(), rate=1, returns_after=45).is_kept
    assert judge(ledger(over_cap=1), rate=1, returns_after=45).wrong == ["1 more were inside than may be"]


# Positions


def waits(number: int, *told: tuple[float, int], approximate: bool = False) -> Story:
    return story(number, told=[Told(at, position, approximate=approximate) for at, position in told])


def test_a_position_that_rises_is_unexplained() -> None:
    found = rises([waits(1, (10, 500), (20, 400), (30, 401))], rate=1, returns_after=45)
    assert (found.pairs, found.rose, len(found.unexplained)) == (2, 1, 1)
    assert rises([waits(1, (10, 500), (20, 400), (30, 400))], rate=1, returns_after=45).rose == 0


def test_approximate_places_have_noise() -> None:
    # A milestone of 2 places, 5 s of the rate, and one.
    assert rises([waits(1, (10, 1000), (20, 1008), approximate=True)], rate=1, returns_after=45).noise == 1
    assert len(rises([waits(1, (10, 1000), (20, 1009), approximate=True)], rate=1, returns_after=45).unexplained) == 1


def test_people_who_return_to_their_own_place_explain_a_rise() -> None:
    back = waits(1, (10, 20), (60, 2))
    assert rises([back, waits(2, (50, 3), (61, 4))], rate=1, returns_after=45).returned == 1
    # Not by two of them, nor behind somebody, nor at another time.
    for rose in (waits(2, (50, 3), (61, 5)), waits(0, (50, 3), (61, 4)), waits(2, (70, 3), (75, 4))):
        assert len(rises([back, rose], rate=1, returns_after=45).unexplained) == 1


# Promises


def promised(at: float, low: float | None, high: float | None, eta: float = 2 * WORTH) -> Story:
    return story(1, admitted=100.0, told=[Told(at, 10, eta, low, high)])


def test_ranges_are_kept_by_what_was_served() -> None:
    found = promises([promised(40, 50, 70), promised(40, 50, 59), promised(40, 60, 60), promised(40, 61, 90)])
    assert (found.count, found.ranged, found.coverage) == (4, 4, 0.5)
    assert found.width == pytest.approx((29 / 60 + 9 / 60 + 20 / 60 + 0) / 4, abs=0.1)


def test_without_ranges_nothing_is_said_of_them() -> None:
    found = promises([promised(40, None, None)])
    assert (found.count, found.ranged, found.coverage, found.width, found.off) == (1, 0, None, None, 0)


def test_short_promises_and_absent_people_are_not_judged() -> None:
    away = promised(40, 1, 2)
    away.steady_since = 41.0
    assert promises([promised(40, 1, 2, eta=WORTH), away, story(2, told=[Told(1, 2, 60.0)])]).count == 0


def test_nobody_can_promise_when_redis_will_be_killed() -> None:
    for shut, count in (((20.0, 30.0), 1), ((20.0, 41.0), 0), ((50.0, 60.0), 0), ((101.0, 110.0), 1)):
        assert promises([promised(40, 1, 2)], [shut]).count == count


def test_a_promise_slips_when_a_new_range_lies_behind_it() -> None:
    said = [Told(0, 9, 50, 40, 60), Told(10, 9, 50, 45, 65), Told(20, 9, 50, 41, 61)]
    # Due at 60, then from 55, from 61 (by 21), and from 120 (by 91): this is the promise from then on.
    said += [Told(30, 9, 99, 90, 121, reason="cap"), Told(40, 9, 99, 80, 111)]
    found = promises([story(1, told=said)])
    assert (found.slipped, found.late, found.reasoned) == (2, 1, 1)
    said[-2].reason = ""
    assert promises([story(1, told=said)]).reasoned == 0
    assert promises([story(1, told=said[:2])]).slipped == 0


# The command line


def test_times_shares_and_numbers() -> None:
    assert [options.seconds(text) for text in ("500ms", "30s", "2m", "1h", "7", "0.5")] == [0.5, 30, 120, 3600, 7, 0.5]
    assert [options.share(text) for text in ("5%", "0.05", "100%", "0")] == [0.05, 0.05, 1, 0]
    assert options.people("5,000") == 5000
    assert options.outage("25s:500ms") == (25, 0.5)


@pytest.mark.parametrize(
    ("read", "text"),
    [(options.seconds, "soon"), (options.seconds, "-1s"), (options.share, "101%"), (options.share, "5 %"),
     (options.people, "0"), (options.rate, "0"), (options.rate, "nan"), (options.outage, "25s")],
)  # fmt: skip
def test_what_is_none_is_refused_with_its_name(read: Callable[[str], object], text: str) -> None:
    with pytest.raises(ArgumentTypeError, match=re.escape(repr(text))):
        read(text)


@pytest.mark.parametrize(
    "words",
    ["--leave 60% --vanish 60%", "--admin-key k", "--url ftp://x --event e", "--url http://x", "--scenario none",
     "--url http://x --event e --outage 1s:1s", "--url http://x --event e --doors 1s", "--people many",
     "--ready-ttl 30s"],
)  # fmt: skip
def test_wrong_use_ends_with_2(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        options.parse(words.split())
    assert ended.value.code == 2
    assert "error: " in capsys.readouterr().err


def test_a_scenario_is_a_set_of_defaults() -> None:
    assert options.parse(["--scenario", "slow-drip"]).rate == 2
    assert options.parse(["--scenario", "slow-drip", "--rate", "3"]).rate == 3
    for name in options.SCENARIOS:
        assert options.parse(["--scenario", name]).scenario == name


# The report


def test_a_report_tells_faults_and_is_a_page_of_its_own() -> None:
    seen = ledger(story(1, admitted=108), story(2, admitted=100), story(3, end=End.LOST, until=50.0))
    verdict = judge(seen, rate=1, returns_after=45)
    assert not verdict.is_kept
    figures = report(options.Options(admin_key="secret-key"), seen, verdict, cpu=1.0)
    words, made = text(figures), page(figures, seen, verdict)
    assert "NOT KEPT" in words
    assert "overtaken: person 1" in words
    assert "lost: person 3" in words
    assert "overtaken: person 1" in made
    assert re.findall(r"(?:https?:)?//|@import|url\(|<script", made) == []
    assert "secret-key" not in words + made + json.dumps(figures)
    assert judge(ledger(story(1, admitted=10)), rate=1, returns_after=45).is_kept


# Real crowds

SMALL = ["--hidden-tabs", "0", "--no-html", "--seed", "1"]


@contextmanager
def crowd(*words: str) -> Iterator["subprocess.Popen[str]"]:
    command = [sys.executable, "-m", "tests.crowd", *SMALL, *words]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        # It ends what it has started when it is told to.
        process.terminate()
        process.wait(60)
        assert process.stdout is not None
        process.stdout.close()


def test_a_small_crowd_is_accounted_for(tmp_path: Path) -> None:
    found = tmp_path / "crowd.json"
    with crowd("--people", "200", "--arrive", "2s", "--doors", "1s", "--rate", "40", "--json", str(found)) as process:
        said, _ = process.communicate(timeout=100)
    assert process.returncode == 0, said
    figures = json.loads(found.read_text())
    assert figures["kept"]
    assert sum(figures["ends"].values()) == figures["people"] == 200
    assert figures["ends"]["admitted"] == figures["admitted"] == figures["totals"]["admitted"] > 150
    assert figures["latency_ms"]["place"]["count"] > 0
    assert figures["unchecked"] == []


def test_ctrl_c_ends_a_crowd_with_a_report_and_leaves_nothing() -> None:
    with crowd("--people", "100", "--arrive", "1s", "--rate", "1") as process:
        assert process.stdout is not None
        while not re.search(r"came [1-9]", process.stdout.readline()):
            assert process.poll() is None
        family = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "stopped: " in said
    assert len(family) >= 4
    assert psutil.wait_procs(family, timeout=10)[1] == []


def test_a_place_that_is_taken_away_is_noticed(tmp_path: Path) -> None:
    found = tmp_path / "crowd.json"
    with RedisServer() as server, Api(server.url) as api, Redis.from_url(server.url, decode_responses=True) as redis:
        where = ("--url", api.url, "--event", "sale", "--admin-key", ADMIN_KEY, "--json", str(found))
        with crowd("--people", "40", "--arrive", "1s", "--doors", "6s", "--rate", "40", "--leave", "0", "--vanish",
                   "0", "--never-enter", "0", *where) as process:  # fmt: skip
            keys = Keys().event("sale")
            while redis.zcard(keys.queue) < 40:
                assert process.poll() is None
                time.sleep(0.05)
            # Log and line agree, so nothing is damaged.
            [ticket] = redis.zrange(keys.queue, 0, 0)
            redis.zrem(keys.queue, ticket)
            redis.xdel(keys.stream, f"{int(ticket) // 1000}-{int(ticket) % 1000}")
            said, _ = process.communicate(timeout=100)
    assert process.returncode == 1, said
    figures = json.loads(found.read_text())
    assert len(figures["faults"]["lost"]) == 1
    assert figures["ends"]["admitted"] == 39
