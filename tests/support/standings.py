"""How an event stands, for what is computed from that alone."""

from shared.line.replies import MOST_SEEN, Standing

MOVING = Standing(
    now=1_800_000_000_000,
    damaged=False,
    paused=False,
    log_lost=False,
    tokens=20.0,
    rate=50.0,
    head_speed=50.0,
    eta_rate=50.0,
    waiting=9000,
    held=False,
    capped=False,
    seen=MOST_SEEN,
    gap=0,
    least_leave=0.0,
    most_leave=0.0,
)
"""Everybody enters, and nobody gives up."""
