"""What a crowd is like: the command line, and sets of defaults by name."""

import argparse
import dataclasses
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

from tests.support.paths import ROOT

REPORT: Final = ROOT / "build" / "crowd" / "crowd.html"
LONGEST_POLL: Final = 1 / 8
"""Of a heartbeat TTL: nobody is told to come back later than after that (api/queue/answers.py)."""
_DESCRIPTION: Final = """\
A crowd of simulated people before the waiting room, over real HTTP. Each behaves like a browser on our page. Without
--url it starts Redis, api and worker of its own, and ends them. At the end everybody is accounted for.

exit status: 0 all is well, 1 somebody was lost, let in twice or overtaken, 2 wrong use, 130 stopped by Ctrl-C"""
_UNITS: Final = {"ms": 0.001, "": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}


class Outage(NamedTuple):
    """When Redis is killed, in s after the first arrival, and for how long."""

    at: float
    seconds: float


@dataclass(frozen=True)
class Options:
    """One run; times in s, shares from 0 to 1."""

    people: int = 5000
    arrive: float = 30.0
    doors: float = 0.0
    rate: float = 200.0
    burst: float | None = None
    max_active: int | None = None
    session_ttl: float = 300.0
    stay: float = 0.0
    ready_ttl: float = 90.0
    heartbeat_ttl: float = 300.0
    outage: Outage | None = None

    leave: float = 0.05
    vanish: float = 0.05
    never_enter: float = 0.05
    hidden_tabs: float = 0.2
    listen: float = 0.5
    retry: bool = True
    double_click: bool = True

    scenario: str = ""
    url: str | None = None
    event: str | None = None
    admin_key: str | None = None
    apis: int = 2
    connections: int = 2048
    patience: float = 120.0
    seed: int = 0
    json: Path | None = None
    html: Path | None = REPORT


SCENARIOS: Final[dict[str, dict[str, Any]]] = {
    "on-sale": {"people": 5000, "arrive": 30.0, "doors": 20.0, "rate": 200.0},
    "slow-drip": {"people": 300, "arrive": 60.0, "rate": 2.0},
    "flash": {"people": 5000, "arrive": 2.0, "rate": 200.0},
    "capped": {
        "people": 600,
        "arrive": 15.0,
        "rate": 100.0,
        "max_active": 60,
        "session_ttl": 15.0,
        "stay": 4.0,
        # No session is ended within twice this time after a cold start.
        "ready_ttl": 20.0,
        "heartbeat_ttl": 120.0,
    },
    "outage": {"people": 2000, "arrive": 20.0, "rate": 30.0, "outage": Outage(25.0, 6.0)},
    "hoarders": {"people": 2000, "arrive": 15.0, "rate": 50.0, "never_enter": 0.5},
}
"""Defaults by name; options override them."""


def seconds(text: str) -> float:
    """A time such as 500ms, 30s or 2m; without a unit in seconds. Raises ArgumentTypeError."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s|m|h|)", text.strip())
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no time like 30s or 2m")
    return float(found[1]) * _UNITS[found[2]]


def share(text: str) -> float:
    """A share such as 5% or 0.05. Raises ArgumentTypeError."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(%?)", text.strip())
    value = float(found[1]) / (100 if found[2] else 1) if found else -1
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no share like 5% or 0.05")
    return value


def people(text: str) -> int:
    """A number from 1, such as 5000 or 5,000. Raises ArgumentTypeError."""
    digits = text.replace(",", "").replace("_", "")
    if not digits.isdecimal() or not int(digits):
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1")
    return int(digits)


def rate(text: str) -> float:
    """People per second, such as 200 or 0.5. Raises ArgumentTypeError."""
    if not re.fullmatch(r"\d+(\.\d+)?", text) or not float(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no rate above 0")
    return float(text)


def outage(text: str) -> Outage:
    """A time and how long, such as 25s:6s. Raises ArgumentTypeError."""
    at, separator, lasts = text.partition(":")
    if not separator:
        raise argparse.ArgumentTypeError(f"{text!r} is no outage like 25s:6s")
    return Outage(seconds(at), seconds(lasts))


def _parser() -> argparse.ArgumentParser:
    named = "\n".join(f"  {name:<10} {_words(values)}" for name, values in SCENARIOS.items())
    parser = argparse.ArgumentParser(
        prog="python -m tests.crowd",
        description=_DESCRIPTION,
        epilog=f"times: 500ms, 30s, 2m; shares: 5%, 0.05\n\nscenarios, which options override:\n{named}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,
    )
    parser.add_argument("--scenario", choices=SCENARIOS, metavar="NAME", help="a set of defaults")
    crowd = parser.add_argument_group("the crowd")
    crowd.add_argument("--people", type=people, metavar="N", help="who come (5000)")
    crowd.add_argument("--arrive", type=seconds, metavar="TIME", help="within which they come (30s)")
    crowd.add_argument("--leave", type=share, metavar="SHARE", help="press leave at a random time (5%%)")
    crowd.add_argument("--vanish", type=share, metavar="SHARE", help="never ask again after a while (5%%)")
    crowd.add_argument("--never-enter", type=share, metavar="SHARE", help="wait for ever and never go in (5%%)")
    crowd.add_argument(
        "--hidden-tabs", type=share, metavar="SHARE", help="in a hidden tab: polls wake once a minute (20%%)"
    )
    crowd.add_argument("--listen", type=share, metavar="SHARE", help="listen to the stream instead of polling (50%%)")
    for name, what in (
        ("--retry", "some lose the answer to their join and repeat it"),
        ("--double-click", "some join twice at once"),
    ):
        crowd.add_argument(name, action=argparse.BooleanOptionalAction, help=f"{what} (yes)")
    event = parser.add_argument_group("the event")
    event.add_argument("--rate", type=rate, metavar="N", help="people let in per second (200)")
    event.add_argument("--burst", type=rate, metavar="N", help="people let in at once (4 s of the rate)")
    event.add_argument("--doors", type=seconds, metavar="TIME", help="it is paused until then (0s)")
    event.add_argument("--max-active", type=people, metavar="N", help="people inside at the same time (any number)")
    event.add_argument("--session-ttl", type=seconds, metavar="TIME", help="of a session inside (5m)")
    event.add_argument("--stay", type=seconds, metavar="TIME", help="people look around inside for about this (0s)")
    event.add_argument(
        "--ready-ttl", type=seconds, metavar="TIME", help="of silence, after which people step aside (90s)"
    )
    event.add_argument("--heartbeat-ttl", type=seconds, metavar="TIME", help="after which they lose their place (5m)")
    event.add_argument("--outage", type=outage, metavar="AT:FOR", help="Redis is killed, and comes back (25s:6s)")
    where = parser.add_argument_group("where")
    where.add_argument("--url", help="of a Daegi that runs, instead of one of its own")
    where.add_argument("--event", metavar="NAME", help="of the event (a new one; has to be named without --admin-key)")
    where.add_argument("--admin-key", metavar="KEY", help="with --url: gives the event its settings, and reads totals")
    where.add_argument("--apis", type=people, metavar="N", help="api processes that it starts (2)")
    where.add_argument("--connections", type=people, metavar="N", help="kept alive at most, beside streams (2048)")
    how = parser.add_argument_group("the run")
    how.add_argument("--patience", type=seconds, metavar="TIME", help="without anybody let in, until it ends (2m)")
    how.add_argument("--seed", type=int, help="of what is drawn by lot (another one each time)")
    how.add_argument("--json", type=Path, metavar="PATH", help="write the report there as JSON")
    how.add_argument("--html", type=Path, metavar="PATH", help=f"and as a page ({REPORT.relative_to(ROOT)})")
    how.add_argument("--no-html", dest="html", action="store_const", const=None, help="write no page")
    return parser


def parse(argv: Sequence[str] | None = None) -> Options:
    """The command line; ends the process with 2 and a message if it is wrong."""
    parser = _parser()
    given = vars(parser.parse_args(argv))
    defaults = SCENARIOS.get(given.get("scenario", ""), {})
    options = Options(**{"seed": random.SystemRandom().randrange(10**6), **defaults, **given})
    if problem := _problem(options):
        parser.error(problem)
    return options


def _problem(options: Options) -> str | None:
    if options.leave + options.vanish + options.never_enter > 1:
        return "--leave, --vanish and --never-enter: together they are more than everybody"
    if options.ready_ttl < options.heartbeat_ttl * LONGEST_POLL:
        return "--ready-ttl: people poll after up to an eighth of --heartbeat-ttl: they would step aside meanwhile"
    if options.url is None:
        return "--admin-key goes with --url" if options.admin_key else None
    if not options.url.startswith(("http://", "https://")):
        return f"--url: {options.url!r} is no URL like http://127.0.0.1:8000"
    if options.outage:
        return "--outage kills Redis: only one that is started here"
    if options.admin_key is None and options.event is None:
        return "--event: without --admin-key none can be declared, so name one that is"
    if options.admin_key is None and options.doors:
        return "--doors: without --admin-key nobody can open them"
    return None


def _words(values: dict[str, Any]) -> str:
    return ", ".join(f"{name.replace('_', '-')} {_plain(value)}" for name, value in values.items())


def _plain(value: Any) -> str:
    if isinstance(value, Outage):
        return f"{value.at:g}s:{value.seconds:g}s"
    return f"{value:g}" if isinstance(value, float) else str(value)


def as_dict(options: Options) -> dict[str, Any]:
    """For the report: without the key."""
    found = dataclasses.asdict(options)
    del found["admin_key"]
    found["outage"] = _plain(options.outage) if options.outage else None
    return {name: str(value) if isinstance(value, Path) else value for name, value in found.items()}
