"""How long somebody waits: a figure, and the range in which the truth lies for nine promises of ten over 30 s."""

import math

from api.contract.schemas import MAX_ETA
from shared.line.replies import MOST_SEEN, Standing

FRONT_POLL_S = 2.0
"""Seconds between polls at the front (shared/line/DESIGN.md, "Polling, leases and the position index")."""

_Z = 1.645
"""Standard deviations on either side of the middle between which nine of ten lie."""

_PRIOR = 5
"""Turns that are taken up before any are seen, as in lib/speed.lua."""


def eta(position: int, standing: Standing) -> float | None:
    """Seconds until somebody at this position can enter; None while nobody can."""
    missing = position - standing.tokens
    # At rate 0 nobody beyond the tokens can enter, however fast the head of the line moved a moment ago.
    if standing.paused or standing.damaged or (missing > 0 and min(standing.rate, standing.eta_rate) <= 0):
        return None
    # Whoever is called learns of it with their next poll.
    return min(FRONT_POLL_S / 2 + missing / standing.eta_rate, MAX_ETA) if missing > 0 else 0.0


def eta_range(seconds: float | None, position: int, standing: Standing) -> tuple[int, int] | None:
    if not seconds:
        return None if seconds is None else (0, 0)
    missing, share, seen = position - standing.tokens, standing.rate / standing.eta_rate, standing.seen
    if share > 1.0001:
        new = 1 - seen / MOST_SEEN
        sampling = 1 / math.sqrt(max(missing, 1))
        low = seconds * math.exp(-0.13 - 0.3 * new - 0.7 * new**4 - sampling)
        high = seconds * math.exp(0.13 + 0.8 * new + sampling)
    elif standing.held:
        low, high = seconds * 0.88, seconds * 1.28
    else:
        share = min(share, 1)
        seen += _PRIOR
        z2 = _Z * _Z / seen
        spread = share * (1 - share)
        middle = (share + z2 / 2) / (1 + z2)
        half = math.sqrt((spread / seen + z2 / (4 * seen)) / (1 + z2) ** 2 + spread / missing) * _Z
        low = seconds * (middle - half) / share
        high = seconds * min(middle + half, 1) / share
        low, high = low * 0.99, high * 1.01
    return max(0, math.floor(low - 1)), min(math.ceil(max(high, seconds) + 1), MAX_ETA)
