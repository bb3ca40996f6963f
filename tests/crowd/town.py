"""What all people of a crowd share, and how they differ."""

import random
import time
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from tests.crowd.ledger import Ledger
from tests.support.browser import Client


class Fate(Enum):
    """What somebody will do."""

    ENTERS = "goes in when it is their turn"
    LEAVES = "presses leave"
    VANISHES = "never asks again"
    NEVER_ENTERS = "waits for ever"


@dataclass(slots=True)
class Town:
    """What all of them share."""

    client: Client
    ledger: Ledger
    event: str
    host: str
    scheme: str
    gate: bool
    """Whether the gate can be asked, as a proxy would; else people follow the location by themselves."""
    random: random.Random
    rate: float
    heartbeat_ttl: float
    stay: float
    began: float
    last_admission: float = 0.0

    def now(self) -> float:
        """In s since the crowd began."""
        return time.monotonic() - self.began


class Character(NamedTuple):
    """How somebody behaves."""

    fate: Fate
    hidden: bool = False
    listens: bool = False
    loses_join: bool = False
    clicks_twice: bool = False
