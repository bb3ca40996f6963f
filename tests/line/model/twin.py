"""Does every step to the line on real Redis and to the model, and sees that both answer the same."""

import copy
from collections.abc import Awaitable, Callable, Mapping, Sequence
from itertools import permutations
from types import MappingProxyType
from typing import Any, NamedTuple

from shared.errors import DaegiError
from shared.line.line import Line
from tests.line.model.upkeep import Model


class Call(NamedTuple):
    """A step with what it is asked."""

    name: str
    args: tuple[Any, ...] = ()
    options: Mapping[str, Any] = MappingProxyType({})


class Deed(NamedTuple):
    """A step that was made, and what it answered."""

    call: Call
    told: Any


_TOLD: dict[str, Callable[[Any], Any]] = {
    "enqueue": lambda reply: reply.joined,
    "poll": lambda reply: reply[1],
    "enter": lambda reply: reply[1],
    "reap": lambda reply: (reply.more, reply.expired, reply.unlinked),
    "inspect": lambda reply: (
        reply.places_differ,
        reply.heartbeats_missing,
        reply.logged,
        reply.members,
        reply.walked,
    ),
    "repair": lambda reply: (reply.next_entry, reply.written),
}
"""What of a reply the model answers too."""

_READ_ONLY = frozenset({"members", "known_users"})
"""Steps of several commands that change nothing: others may come in between."""

_FLEETWIDE = frozenset({"note_activity"})


class Twin:
    """Stands in for a Line of one event; `deeds` are the steps made since somebody last looked.

    `turn` is what a step of a job waits for.
    """

    def __init__(
        self,
        line: Line,
        model: Model,
        event: str,
        deeds: list[Deed],
        turn: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self.line, self.model, self.event, self.deeds = line, model, event, deeds
        self._turn = turn

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        async def step(_: str, *args: Any, **options: Any) -> Any:
            call = Call(name, args, options)
            if self._turn and name not in _READ_ONLY:
                await self._turn()
            try:
                reply = await send(self.line, self.event, call)
            except DaegiError as error:
                reply = error
            told = tell(name, reply)
            if name not in _READ_ONLY:
                expected = answer(self.model, call)
                assert told == expected, f"{call} answered {told}, the model {expected}"
            self.deeds.append(Deed(call, told))
            if isinstance(reply, DaegiError):
                raise reply
            return reply

        return step

    async def ask(self, name: str, *args: Any, **options: Any) -> Any:
        """One step; what it told."""
        try:
            return tell(name, await getattr(self, name)(self.event, *args, **options))
        except DaegiError as error:
            return type(error)


async def send(line: Line, event: str, call: Call) -> Any:
    """One step on real Redis."""
    step = getattr(line, call.name)
    if call.name == "enqueue":
        return await step(event, *call.args, may_create=True)
    return await step([event] if call.name in _FLEETWIDE else event, *call.args, **call.options)


def tell(name: str, reply: Any) -> Any:
    """What of it the model answers too."""
    if isinstance(reply, DaegiError):
        return type(reply)
    return _TOLD[name](reply) if name in _TOLD else reply


def answer(model: Model, call: Call) -> Any:
    """The same step in the model."""
    try:
        return getattr(model, call.name)(*call.args, **call.options)
    except DaegiError as error:
        return type(error)


def find_order(
    model: Model, deeds: Sequence[Deed], leaves: Callable[[Model], bool]
) -> tuple[Model, Sequence[Deed]] | None:
    """These steps in an order in which the model answers what they told and is left as it should be; and that model."""
    for order in permutations(deeds):
        tried = copy.deepcopy(model)
        if all(answer(tried, deed.call) == deed.told for deed in order) and leaves(tried):
            return tried, order
    return None
