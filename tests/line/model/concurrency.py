"""Steps that happen at the same time, over several connections: together they must do what they do in some order."""

import asyncio
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import rule

from shared.errors import DaegiError
from shared.line.line import Join
from tests.line.model.accidents import Accidents
from tests.line.model.event import GAP
from tests.line.model.machine import AT_ONCE, EVENT
from tests.line.model.people import KEY
from tests.line.model.seen import differences
from tests.line.model.twin import Call, Deed, find_order, send, tell

_kinds = ["join", "join", "poll", "enter", "enter", "leave", "redeem", "reap", "refresh", "repair", "configure"]


class Concurrency(Accidents):
    """One step at a time, or several at once."""

    @rule(
        kinds=st.lists(st.sampled_from(_kinds), min_size=2, max_size=AT_ONCE),
        picks=st.lists(st.integers(0, 1000), min_size=1, max_size=3),
        key=st.sampled_from([b"", bytes([1] * KEY)]),
    )
    def many_come_at_once(self, kinds: list[str], picks: list[int], key: bytes) -> None:
        # The same people in all of them, of those whose turn it is if there are any.
        called = self.called()
        tickets = list(dict.fromkeys(called[pick % len(called)] for pick in picks)) if called else self.pick(picks)
        calls = [self._call(kind, tickets, key, str(number)) for number, kind in enumerate(kinds)]
        self.run(self._at_once(calls))
        self.note_settings()

    def _call(self, kind: str, tickets: list[int], key: bytes, backend: str) -> Call:
        match kind:
            case "join":
                return Call("enqueue", ([Join(key and key + b"~~~~vann", b"vann"), Join(b"", b"vbob")],))
            case "redeem":
                held = self.model.passes.get(tickets[0])
                return Call("redeem", (tickets[0], held.issued if held else self.model.now, backend))
            case "reap":
                return Call("reap", (), {"interrupted": 0, "longest_gap": GAP})
            case "repair":
                return Call("repair", (), {"tickets": list(dict.fromkeys(tickets))})
            case "refresh":
                return Call("refresh", (list(dict.fromkeys(tickets)),))
            case "configure":
                return Call("configure", ({"declared": "1", "rate": "2"},))
            case _:
                return Call(kind, (tickets,))

    async def _at_once(self, calls: list[Call]) -> None:
        told = await asyncio.gather(*(self._send(number, call) for number, call in enumerate(calls)))
        deeds = [Deed(call, one) for call, one in zip(calls, told, strict=True)]
        seen, described = await self.look()
        found = find_order(self.model, deeds, lambda model: not differences(model, seen, described))
        assert found, f"in no order do {deeds} come to what was found"
        model, order = found
        vars(self.model).update(vars(model))
        self.deeds += order
        self.know(self.model.log)

    async def _send(self, number: int, call: Call) -> Any:
        try:
            return tell(call.name, await send(self.lines[number % AT_ONCE], EVENT, call))
        except DaegiError as error:
            return type(error)
