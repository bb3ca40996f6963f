"""Lost keys: a damaged line is a closed door, and repair brings back the same order."""

from itertools import combinations
from typing import NamedTuple

import pytest

from shared.line.line import Join
from shared.line.replies import EnterCode, Entered, JoinCode, PollCode
from tests.line.conftest import LIFE, MakeRoom, Room
from workers.jobs.repair import repair_event

MEMBERS = ("queue", "called", "absent")
PROJECTIONS = (*MEMBERS, "heartbeat", "places", "position_index")


class Mixed(NamedTuple):
    """A room with people of every kind: some absent, some called, the rest in line, and one admitted."""

    room: Room
    absent: list[int]
    called: list[int]
    line: list[int]
    admitted: int

    @property
    def everyone(self) -> list[int]:
        return [*self.absent, *self.called, *self.line]

    def keys(self, *names: str) -> list[str]:
        return [getattr(self.room.keys, name) for name in names]


@pytest.fixture
async def mixed(make_room: MakeRoom) -> Mixed:
    room = make_room(admit_rate=1, admit_burst=5)
    people = [Join(b"", b"v%d" % i if i % 2 else b"u%d" % i) for i in range(21)]
    tickets = [one.ticket for one in await room.enqueue(*people[:12])]
    room.clock.advance(100)
    tickets += [one.ticket for one in await room.enqueue(*people[12:])]
    # The first five are silent; the poll of the others calls the next five.
    await room.poll(*tickets[5:])
    assert await room.admit(tickets[5]) == [tickets[5]]
    await room.line.publish_index(room.event)
    mixed = Mixed(room, tickets[:5], tickets[6:10], tickets[10:], tickets[5])
    assert (await room.absent(), await room.called(), await room.waiting()) == mixed[1:4]
    return mixed


async def content(room: Room) -> dict[str, object]:
    """Everything that people could notice, as it is stored."""
    found: dict[str, object] = {"log": await room.logged(), "places": await room.fields(room.keys.places)}
    for name in ("queue", "absent", "heartbeat", "admitted"):
        found[name] = await room.redis.zrange(getattr(room.keys, name), 0, -1, withscores=True)
    return found


@pytest.mark.parametrize("lost", [names for size in (1, 2, 3) for names in combinations(MEMBERS, size)], ids="+".join)
async def test_in_a_damaged_line_nobody_is_called_let_in_or_expired(mixed: Mixed, lost: tuple[str, ...]) -> None:
    room = mixed.room
    await room.redis.delete(*mixed.keys(*lost))
    left = {name: await room.redis.zrange(mixed.keys(name)[0], 0, -1) for name in MEMBERS}
    assert (await room.standing()).damaged
    assert await room.admit(mixed.called[-1], mixed.line[-1]) == []
    await room.leave(mixed.called[-1], mixed.line[-1])
    # Everybody else stays where they were, or nowhere, through lives of silence and of sweeps.
    assert await room.sweep(2 * LIFE) == 0
    for name, members in left.items():
        gone = {str(mixed.called[-1]), str(mixed.line[-1])}
        assert await room.redis.zrange(mixed.keys(name)[0], 0, -1) == [one for one in members if one not in gone]
    assert len(await room.logged()) == len(mixed.everyone) - 2


@pytest.mark.parametrize("lost", MEMBERS)
async def test_in_a_damaged_line_polls_and_enters_answer_without_a_place(mixed: Mixed, lost: str) -> None:
    room = mixed.room
    await room.redis.delete(*mixed.keys(lost))
    some = [mixed.called[1], mixed.line[1]]
    standing, polled = await room.line.poll(room.event, some)
    assert standing.damaged
    assert polled == [(PollCode.WAITING, 0)] * 2
    assert [(one.code, one.position) for one in await room.enter(*some)] == [(EnterCode.NOT_READY, 0)] * 2
    assert await room.enter(mixed.admitted) == [
        Entered(EnterCode.GRANTED, 0, room.now, 30_000, room.now, room.now + 30_000)
    ]


async def test_in_a_damaged_line_joins_go_on_without_a_place(mixed: Mixed) -> None:
    room = mixed.room
    await room.redis.delete(room.keys.queue)
    (joined,) = await room.enqueue(Join(b"", b""))
    assert (joined.position, joined.ticket > mixed.line[-1]) == (0, True)
    await room.repair()
    assert await room.waiting() == [*mixed.line, joined.ticket]


@pytest.mark.parametrize(
    "lost",
    [*((name,) for name in PROJECTIONS), *combinations(MEMBERS, 2), ("queue", "heartbeat"), PROJECTIONS],
    ids="+".join,
)
async def test_repair_brings_everybody_back_in_the_same_order(mixed: Mixed, lost: tuple[str, ...]) -> None:
    room = mixed.room
    before = await content(room)
    seconds_since_heard = 100
    await room.redis.delete(*mixed.keys(*lost))
    for _ in range(2):
        await room.repair()
    after = await content(room)
    assert not (await room.standing()).damaged
    assert (after["log"], after["places"], after["admitted"]) == (before["log"], before["places"], before["admitted"])
    # The called and the absent whose key was lost stand in line again, where their tickets say.
    again = {"called": mixed.called, "absent": mixed.absent}
    assert await room.waiting() == sorted([*mixed.line, *(t for key in again if key in lost for t in again[key])])
    assert await room.called() == ([] if "called" in lost else mixed.called)
    assert await room.absent() == ([] if "absent" in lost else mixed.absent)
    if "heartbeat" in lost:
        assert after["heartbeat"] == [(str(ticket), room.now) for ticket in mixed.everyone]
        assert await room.sweep(LIFE - 5) == 0
    else:
        assert after["heartbeat"] == before["heartbeat"]
        assert await room.sweep(LIFE - seconds_since_heard - 5) == 0


@pytest.mark.parametrize("lost", [*MEMBERS, "places", "position_index"])
async def test_what_is_not_damaged_is_not_touched(mixed: Mixed, lost: str) -> None:
    room = mixed.room
    await room.redis.delete(*mixed.keys(lost))
    await room.repair()
    healed = await content(room)
    room.clock.advance(1)
    await room.repair()
    assert await content(room) == healed


async def test_the_index_of_a_damaged_line_stays_the_last_good_one(mixed: Mixed) -> None:
    room = mixed.room
    before = await room.line.index(room.event)
    await room.redis.delete(room.keys.called)
    room.clock.advance(10)
    assert not await room.line.publish_index(room.event)
    assert await room.line.index(room.event) == before
    await room.repair()
    assert await room.line.publish_index(room.event)


async def test_a_polled_ticket_that_is_in_the_log_and_nowhere_else_is_put_back(mixed: Mixed) -> None:
    room = mixed.room
    lost = mixed.line[2]
    await room.redis.zrem(room.keys.queue, lost)
    (polled,) = await room.poll(lost)
    assert polled.code == PollCode.WAITING
    assert await room.waiting() == mixed.line
    # That healed the line, so the next answer is exact.
    assert await room.positions(lost) == [len(mixed.called) + 3]


async def test_somebody_who_enters_is_put_back_too(mixed: Mixed) -> None:
    room = mixed.room
    await room.redis.zrem(room.keys.called, mixed.called[0])
    assert [one.code for one in await room.enter(mixed.called[0])] == [EnterCode.NOT_READY]
    room.clock.advance(6)
    assert await room.admit(mixed.called[0]) == [mixed.called[0]]


async def test_repair_of_tickets_alone_writes_back_just_them(mixed: Mixed) -> None:
    room = mixed.room
    await room.redis.delete(room.keys.queue, room.keys.heartbeat, room.keys.places)
    some = [mixed.line[1], mixed.line[3]]
    repaired = await room.line.repair(room.event, tickets=[*some, mixed.admitted, 17])
    assert await room.waiting() == some
    assert await room.redis.zrange(room.keys.heartbeat, 0, -1) == [str(ticket) for ticket in some]
    assert repaired.next_entry == b""
    assert repaired.standing.damaged


async def test_the_users_of_a_lost_places_key_find_their_tickets_again(mixed: Mixed) -> None:
    room = mixed.room
    owner = next(who for ticket, who in (await room.logged()).items() if ticket == mixed.line[-2])
    await room.redis.delete(room.keys.places)
    await room.repair()
    (again,) = await room.enqueue(Join(b"", owner.encode()))
    assert again.ticket == mixed.line[-2]


@pytest.mark.parametrize("lost", [("places",), ("state", "places"), ("state",)], ids="+".join)
async def test_a_user_who_rejoins_while_places_are_lost_gets_no_second_ticket(
    closed: Room, lost: tuple[str, ...]
) -> None:
    key = bytes([1] * 16) + b"somebody"
    ann, bob = await closed.enqueue(Join(b"", b"vann"), Join(key, b"vbob"))
    await closed.redis.delete(*(getattr(closed.keys, name) for name in lost))
    # Who they are has not been looked up yet; whoever has a key, or is nobody in particular, need not wait for that.
    joins = [Join(b"", b"vann"), Join(b"", b"vnew"), Join(key, b"vbob"), Join(b"", b"u"), Join(b"", b"vann")]
    first, second, third, fourth, fifth = await closed.enqueue(*joins)
    if "places" in lost:
        assert first == fifth == (JoinCode.PLACE_UNKNOWN, 0, 0)
    else:
        assert first == fifth == (JoinCode.IN_LINE, ann.ticket, 1)
    assert second == (JoinCode.PLACE_UNKNOWN, 0, 0)
    assert (third.code, third.ticket) == (JoinCode.IN_LINE, bob.ticket)
    assert (fourth.code, fourth.position) == (JoinCode.NEW, 3)
    await closed.repair()
    first, second, *_ = await closed.enqueue(*joins[:2])
    assert (first.code, first.ticket) == (JoinCode.IN_LINE, ann.ticket)
    assert (second.code, second.position) == (JoinCode.NEW, 4)
    assert await closed.waiting() == [ann.ticket, bob.ticket, fourth.ticket, second.ticket]


async def test_places_are_not_written_back_piece_by_piece_as_far_as_joins_can_tell(closed: Room) -> None:
    (early, late) = await closed.enqueue(Join(b"", b"vann"), Join(b"", b"vbob"))
    await closed.redis.delete(closed.keys.places)
    await closed.line.repair(closed.event, tickets=[late.ticket])
    ann, bob, new = await closed.enqueue(Join(b"", b"vann"), Join(b"", b"vbob"), Join(b"", b"vnew"))
    assert (ann.code, bob.ticket, new.code) == (JoinCode.PLACE_UNKNOWN, late.ticket, JoinCode.PLACE_UNKNOWN)
    await closed.repair()
    assert (await closed.enqueue(Join(b"", b"vann")))[0].ticket == early.ticket


@pytest.mark.parametrize("tickets", [(), (0,), (1,)])
async def test_a_place_that_holds_is_not_given_to_another_ticket_of_the_same_user(
    closed: Room, tickets: tuple[int, ...]
) -> None:
    # As a version that gave a second ticket while places were lost may have left it.
    first, second = [one.ticket for one in await closed.enqueue(Join(b"", b"vann"), Join(b"", b"u"))]
    for ticket in (first, second):
        await closed.redis.xadd(closed.keys.rebuild, {"u": "vann"}, id=f"{ticket // 1000}-{ticket % 1000}")
    await closed.redis.rename(closed.keys.rebuild, closed.keys.stream)
    for held in (first, second):
        await closed.redis.execute_command("HSET", closed.keys.places, "ann", held)
        await closed.line.repair(closed.event, tickets=[(first, second)[i] for i in tickets])
        assert (await closed.enqueue(Join(b"", b"vann")))[0].ticket == held
    assert await closed.waiting() == [first, second]


async def test_a_place_that_leads_to_nobody_is_given_to_the_ticket_that_the_log_knows(closed: Room) -> None:
    (ticket,) = [one.ticket for one in await closed.enqueue(Join(b"", b"vann"))]
    await closed.redis.execute_command("HSET", closed.keys.places, "ann", ticket - 1)
    await closed.line.repair(closed.event)
    assert await closed.fields(closed.keys.places) == {"ann": str(ticket)}


@pytest.mark.parametrize("lost", [("state",), ("state", "stream")], ids="+".join)
async def test_in_an_empty_line_nobody_has_to_be_looked_up(closed: Room, lost: tuple[str, ...]) -> None:
    (gone,) = await closed.enqueue(Join(b"", b"vann"))
    await closed.leave(gone.ticket)
    await closed.redis.execute_command("HSET", closed.keys.places, "old", gone.ticket)
    await closed.redis.delete(*(getattr(closed.keys, name) for name in lost))
    for who in (b"vbob", b"vcho", b"vold"):
        assert [one.code for one in await closed.enqueue(Join(b"", who))] == [JoinCode.NEW]
    assert (await closed.fields(closed.keys.places)).keys() == {"bob", "cho", "old"}
    assert not (await closed.line.inspect(closed.event)).places_differ


@pytest.mark.parametrize("how", ["user", "key"])
@pytest.mark.parametrize("where", ["line", "called", "absent"])
async def test_somebody_whose_log_entry_is_lost_rejoins_in_their_own_place(mixed: Mixed, how: str, where: str) -> None:
    room = mixed.room
    log = await room.logged()
    ticket = next(ticket for ticket in getattr(mixed, where) if log[ticket][0] == "v")
    join = Join(b"", log[ticket].encode())
    if how == "key":
        join = Join(bytes([1] * 16) + b"somebody", join.who)
        await room.enqueue(join)
        # It is the key alone that leads to them.
        await room.redis.delete(room.keys.places)
    if where == "absent":
        await room.redis.zadd(room.keys.absent, {str(ticket): ticket})
        await room.redis.zrem(room.keys.queue, ticket)
    await room.redis.xdel(room.keys.stream, f"{ticket // 1000}-{ticket % 1000}")
    assert await room.enqueue(join) == [(JoinCode.IN_LINE, ticket, 0)]
    assert await room.line.request_log_rebuild(room.event)
    await room.repair()
    assert list(await room.logged()) == sorted(mixed.everyone)


async def test_heartbeats_that_are_on_their_way_are_not_taken_for_lost(closed: Room) -> None:
    joined = (await closed.line.enqueue(closed.event, [Join(b"", b"")] * 3, True)).joined
    await closed.repair()
    assert not await closed.redis.exists(closed.keys.heartbeat)
    await closed.line.confirm(closed.event, [one.ticket for one in joined], closed.now, note_activity=True)
    await closed.repair()
    await closed.join()
    await closed.redis.delete(closed.keys.heartbeat)
    # Missing at two looks in a row they are lost.
    await closed.repair()
    assert not await closed.redis.exists(closed.keys.heartbeat)
    await closed.repair()
    assert await closed.redis.zcard(closed.keys.heartbeat) == 4


async def test_state_that_is_lost_is_no_damage(mixed: Mixed) -> None:
    room = mixed.room
    before = await content(room)
    await room.redis.delete(room.keys.state)
    assert not (await room.standing()).damaged
    await room.repair()
    assert await content(room) == before
    room.clock.advance(6)
    assert await room.positions(mixed.line[-1]) == [len(mixed.line)]


@pytest.mark.parametrize("then", ["nobody comes", "somebody leaves"])
async def test_places_that_are_lost_together_with_state_are_written_back(mixed: Mixed, then: str) -> None:
    room = mixed.room
    places = await room.fields(room.keys.places)
    await room.redis.delete(room.keys.state, room.keys.places)
    if then == "somebody leaves":
        await room.leave(int(places.popitem()[1]))
    await room.repair()
    assert await room.fields(room.keys.places) == places
    assert not (await room.line.inspect(room.event)).places_differ


async def test_more_than_one_piece_is_repaired_in_order(closed: Room) -> None:
    tickets = await closed.join(1203)
    await closed.redis.delete(closed.keys.queue, closed.keys.heartbeat)
    await repair_event(closed.line, closed.event)
    assert await closed.waiting() == tickets
    assert await closed.redis.zcard(closed.keys.heartbeat) == 1203


async def test_losses_whose_counts_agree_by_chance_cost_nobody_their_place(make_room: MakeRoom) -> None:
    room = make_room(admit_rate=0.5, admit_burst=2)
    tickets = await room.join(4)
    await room.poll(*tickets)
    assert (await room.called(), await room.waiting()) == (tickets[:2], tickets[2:])
    # Two called people are in the log no more, and two of the line nowhere else: two entries, two members.
    await room.redis.xdel(room.keys.stream, *(f"{ticket // 1000}-{ticket % 1000}" for ticket in tickets[:2]))
    await room.redis.delete(room.keys.queue)
    assert not (await room.standing()).damaged

    # The door shuts for the rest of the batch, and the answer has the ingress ask for repair.
    standing, entered = await room.line.enter(room.event, tickets[:2])
    assert [one.code for one in entered] == [EnterCode.NOT_READY] * 2
    assert standing.damaged
    assert await room.called() == tickets[:2]

    await room.repair()
    assert (await room.standing()).damaged
    assert [*await room.called(), *await room.waiting()] == tickets
    assert await room.line.request_log_rebuild(room.event)
    await room.repair()
    assert list(await room.logged()) == tickets
    assert await room.admit(*tickets[:2]) == tickets[:2]


async def lose_entry(room: Room, ticket: int) -> None:
    await room.redis.xdel(room.keys.stream, f"{ticket // 1000}-{ticket % 1000}")


async def test_somebody_put_back_among_losses_whose_counts_agree_counts_for_those_behind_them(closed: Room) -> None:
    tickets = await closed.join(5)
    await lose_entry(closed, tickets[0])
    await closed.redis.zrem(closed.keys.queue, tickets[1])
    assert not (await closed.standing()).damaged
    standing, polled = await closed.line.poll(closed.event, [tickets[4], tickets[1], tickets[2]])
    assert [one.position for one in polled] == [5, 2, 3]
    assert standing.waiting == 5


async def test_somebody_put_back_into_a_line_that_seemed_empty_is_called_at_once(make_room: MakeRoom) -> None:
    room = make_room(admit_rate=1, admit_burst=4)
    tickets = await room.join(2)
    await room.poll(tickets[0])
    await lose_entry(room, tickets[0])
    await room.redis.zrem(room.keys.called, tickets[1])
    assert not (await room.standing()).damaged
    await room.poll(tickets[1])
    assert await room.called() == tickets


@pytest.mark.parametrize("how", ["leave", "expire"])
async def test_those_whose_log_entry_is_lost_are_counted_when_they_go(closed: Room, how: str) -> None:
    tickets = await closed.join(4)
    await closed.sweep(LIFE - 5)
    await lose_entry(closed, tickets[0])
    if how == "leave":
        assert await closed.leave(*tickets[:2]) == 2
        assert (await closed.totals())["left"] == 2
    else:
        # As many entries as members are lost.
        await closed.redis.zrem(closed.keys.queue, tickets[3])
        assert await closed.sweep(5) == 4
        assert (await closed.totals())["expired"] == 4
    assert await closed.leave(*tickets[:2]) == 0
