"""How long somebody waits: one figure, and the range in which the truth lies for nine of ten promises over 30 s."""

import math
from typing import NamedTuple

from api.contract.schemas import MAX_ETA
from shared.line.replies import MOST_SEEN, Standing

FRONT_POLL_S = 2.0
"""Seconds between polls at the front (shared/line/DESIGN.md, "Polling, leases and the position index")."""

_POLL_S = FRONT_POLL_S / 2
"""From a call until the next poll, on average."""

_SHORTEST_S = 1e-6

_Z = 1.645
"""Standard deviations to each side within which nine of ten lie."""


def eta(position: int, standing: Standing) -> float | None:
    """Seconds until somebody at this position can enter; None while nobody can."""
    missing = position - standing.tokens
    # At rate 0 nobody beyond the tokens can enter, however fast the head of the line moved a moment ago.
    if standing.paused or standing.damaged or (missing > 0 and min(standing.rate, standing.eta_rate) <= 0):
        return None
    if missing <= 0:
        return 0.0
    turn = 1 / standing.eta_rate
    # Whoever is called learns of it with their next poll.
    return min(_POLL_S + _thinned(missing * turn, turn, standing.least_leave), MAX_ETA)


def _thinned(seconds: float, turn: float, leave: float, chance: float = 1.0) -> float:
    """How long it takes to come through a line that would take so many seconds, the last of which are one's own turn,
    if this share of those in front gives up in a second, and by chance they take so many times as long.

    A line of n that k enter a second loses k + leave x n: the mean of the estimator QL_m of R. Ibrahim and W. Whitt,
    "Real-time delay estimation in overloaded multiserver queues with abandonments", Management Science 55, 2009.
    """
    in_front = seconds - turn
    if not leave or in_front <= 0:
        return seconds
    return turn + min(in_front, chance * math.log1p(leave * in_front) / leave)


class Doubt(NamedTuple):
    """How sure waits are in one standing: the range is, of the time until somebody is called,

        low - r to min(high + r, most) times as much, and `gap` s less and more,     r = sqrt(common + each / seconds)

    if nobody in front gives up; and as much sooner as they do: at least and at most these shares of them in a second,
    which by chance takes `slow` and `fast` times as long. `turn` is how long each of them takes, in s.
    `common` is what is not known of everybody in front, `each` what those may do by chance who are called in a second.
    """

    low: float
    high: float
    most: float
    common: float
    each: float
    gap: float
    turn: float
    least_leave: float
    most_leave: float
    slow: float
    fast: float


NO_DOUBT = Doubt(0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1)
"""Of a standing in which nobody can enter: there are no waits."""


def doubt(standing: Standing) -> Doubt:
    """Where a wait can turn out otherwise than promised. Figures without another source are the 5th and 95th
    percentiles of true by promised waits in `python -m tests.load.promises`, whose results are in tests/load/README.md.

    Without a cap a wait is as long as the rate makes it if everybody in front enters: a bound that only a new rate, a
    pause or an outage breaks. It is shorter by those who *vanish* or *never enter*. Their share is counted over the
    last turns (lib/speed.lua), so the range is Wilson's interval for as many turns as were seen (E. B. Wilson,
    "Probable inference", JASA 22, 1927) and for those in front. Before any turn was seen it goes from a third of the
    bound to the bound.

    Everybody behind those who *give up* comes in sooner. Whether those in front will go on giving up as fast is not
    known, as most of those who do so do it early: the range goes from as many as all do to as many as the settled do
    (lib/abandonment.lua), each a standard deviation off, with as much chance as there is in who does.

    Where the burst may bound the calls (`held`), it depends on how long those hold theirs who do not enter, 2 to 4 s,
    and most of those in front were such people: the others behind them may all enter.

    Under a full *cap* a wait goes by how long sessions last (lib/stays.lua). The fewer of those inside were seen to
    leave, the less is known: people who came in together leave together, first those who are quick, and nobody for a
    while if all take their time. Once everybody inside came after somebody else, and two session TTLs have passed, the
    range is as wide as stays differ.
    Where groups that came in together still leave together, a wait ends with the leaving of one of them.

    The *rates over 1, 5 and 15 minutes* are no source: they begin with what the burst let in, and a window that is long
    enough for little noise lags (shared/line/DESIGN.md, "The door").
    """
    rate = standing.eta_rate
    if min(rate, standing.rate) <= 0:
        return NO_DOUBT
    # How many of those in front give up is chance; on the way it is about half as many as would if all did now.
    slow, fast = (_Z * math.sqrt(leave / (2 * rate)) for leave in (standing.least_leave, standing.most_leave))
    in_front = 1 / rate, standing.least_leave, standing.most_leave, 1 + slow, max(0, 1 - fast)
    if standing.capped:
        new = 1 - standing.seen / MOST_SEEN
        early = new**8
        low, high = 0.8 - 0.2 * new - 0.62 * early, 1.17 + 0.7 * new + 2.5 * early
        return Doubt(low, high, math.inf, 0, 0.5 / rate, standing.gap, *in_front)
    if standing.held:
        return Doubt(0.88, min(1.4, max(1.25, 1.02 * rate / standing.rate)), math.inf, 0, 0, 0, *in_front)
    share = min(1, standing.rate / rate)
    # As if one turn had been seen: with none, nothing could be said.
    turns, spread = standing.seen + 1, share * (1 - share)
    z2 = _Z * _Z / turns
    middle = (share + z2 / 2) / (1 + z2)
    half = _Z / (1 + z2) / share
    return Doubt(
        0.99 * middle / share,
        1.03 * middle / share,
        1.03 / share,
        half * half * (spread / turns + z2 / (4 * turns)),
        (_Z / share) ** 2 * spread / rate,
        0,
        *in_front,
    )


def eta_range(seconds: float | None, doubt: Doubt) -> tuple[int, int] | None:
    """From how many to how many seconds somebody waits whose eta() is `seconds`: [0, 0] if they need not wait, None
    while nobody can enter. `doubt` is that of the standing: it is worked out once for everybody in it.
    """
    if not seconds:
        return None if seconds is None else (0, 0)
    low, high, most, common, each, gap, turn, least_leave, most_leave, slow, fast = doubt
    # The second before the next poll may be none, or two.
    bound = seconds - _POLL_S or _SHORTEST_S
    if least_leave and bound > turn:
        bound = turn + math.expm1(least_leave * (bound - turn)) / least_leave
    r = math.sqrt(common + each / bound)
    shortest = _thinned(bound * (low - r), turn, most_leave, fast) - gap
    shortest = int(shortest) if shortest > 0 else 0
    longest = int(_thinned(bound * min(high + r, most), turn, least_leave, slow) + gap + FRONT_POLL_S) + 1
    return (shortest, longest) if longest < MAX_ETA else (min(shortest, MAX_ETA), MAX_ETA)
