"""What a hostile or broken client may send, as hypothesis strategies."""

import json
from urllib.parse import quote

from hypothesis import strategies as st

from api.gate.cookies import cookie_name
from tests.api.bad_requests import ENTER, JOIN, LEAVE, OURS, REDEEM, STATUS, TICKET
from tests.support.settings import OPERATOR

ADMIN = "/api/v1/admin/events"
GATE, ROOM = "/api/v1/gate/fuzz", "/waiting-room/fuzz"
GATES = tuple(f"{GATE}/{dialect}/authorize" for dialect in ("nginx", "forwarded", "envoy"))
PATHS = (
    JOIN, STATUS, ENTER, LEAVE, REDEEM, ADMIN, f"{ADMIN}/fuzz", f"{ADMIN}/fuzz/relog", "/healthz", "/readyz",
    *GATES, f"{GATE}/release", ROOM, f"{ROOM}/place", f"{ROOM}/join", f"{ROOM}/enter", f"{ROOM}/leave",
)  # fmt: skip

values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=200)),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=8), inner, max_size=4)),
    max_leaves=8,
)
tokens = st.sampled_from(
    [OURS.waiting("fuzz", TICKET), OURS.waiting("fuzz", TICKET, TICKET // 1000), OURS.reservation("fuzz", TICKET, 1)]
)
fields = st.sampled_from(["event_id", "user_id", "waiting_token", "reservation_token", "rate", "paused", ""])
objects = st.dictionaries(fields, st.one_of(values, st.just("fuzz"), tokens))
sound = objects.map(lambda value: json.dumps(value).encode())


def _spoil(body: bytes, damage: list[tuple[int, int, bytes]]) -> bytes:
    spoilt = bytearray(body)
    for where, length, instead in damage:
        start = where % (len(spoilt) + 1)
        spoilt[start : start + length] = instead
    return bytes(spoilt)


def spoilt(bodies: st.SearchStrategy[bytes], *instead: bytes, most: int = 4) -> st.SearchStrategy[bytes]:
    """These bodies with a few damaged bytes, or one of `instead` in their place."""
    pieces = st.one_of(st.binary(max_size=3), *((st.sampled_from(instead),) if instead else ()))
    damage = st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 2), pieces), min_size=1, max_size=most)
    return st.builds(_spoil, bodies, damage)


likely = st.one_of(
    st.fixed_dictionaries({"event_id": st.just("fuzz")}, optional={"user_id": values}),
    st.fixed_dictionaries({"waiting_token": tokens}),
    st.fixed_dictionaries({"reservation_token": tokens}),
    st.fixed_dictionaries({}, optional={"rate": values, "burst": values, "pass_ttl": values, "paused": values}),
).map(lambda value: json.dumps(value).encode())
bodies = st.one_of(
    sound,
    likely,
    spoilt(sound),
    spoilt(likely),
    values.map(lambda value: json.dumps(value).encode()),
    st.binary(max_size=300),
)


def _of(allowed: bytes, most: int) -> st.SearchStrategy[bytes]:
    """Strings of only these bytes, drawn at once: drawing them one by one takes a hundred times as long."""
    table = bytes(allowed[code % len(allowed)] for code in range(256))
    return st.binary(max_size=most).map(lambda raw: raw.translate(table))


# What HTTP allows in a query and a header. The server, and not our code, has to refuse the rest.
visible = _of(bytes(code for code in range(0x21, 0x7F) if code not in b'"#<>'), 200).map(bytes.decode)
header_values = _of(bytes([*range(0x20, 0x7F), *range(0x80, 0x100)]), 140).map(bytes.strip)

_METHODS = ("GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "BREW")
_HEADERS = (
    "Idempotency-Key", "X-Request-ID", "X-User-Id", "X_User_Id", "Origin", "X-Forwarded-For", "Content-Type",
    "Content-Encoding", "Accept", "Accept-Language", "Accept-Encoding", "Cookie", "Authorization", "X-Original-URI",
    "X-Forwarded-Uri", "X-Forwarded-Method", "X-Forwarded-Proto", "Sec-Fetch-Mode", "Sec-Fetch-Site", "Sec-Purpose",
)  # fmt: skip
_AUTHORIZED = ("Authorization", OPERATOR["Authorization"].encode())

_passes = st.sampled_from(
    [OURS.waiting("fuzz", TICKET), OURS.pass_token("fuzz", TICKET, 1, 1), OURS.pass_token("fuzz", TICKET, 1, 1 << 42)]
)
_cookies = st.builds(
    lambda kind, value: ("Cookie", f"{cookie_name(kind, 'fuzz')}=".encode() + value),
    st.sampled_from(["p", "v", "w"]),
    st.one_of(_passes.map(str.encode), spoilt(_passes.map(str.encode)).map(lambda raw: quote(raw).encode())),
)
_as_browsers_do = st.sampled_from(
    [
        ("Accept", b"text/html"),
        ("Sec-Fetch-Mode", b"navigate"),
        ("X-Original-URI", b"/x?y"),
        ("X-Forwarded-Uri", b"/x?y"),
    ]
)
_headers = st.lists(
    st.one_of(st.tuples(st.sampled_from(_HEADERS), header_values), st.just(_AUTHORIZED), _cookies, _as_browsers_do),
    max_size=4,
)
_with_tokens = st.tuples(
    st.sampled_from([STATUS, LEAVE]), st.just("?token="), st.one_of(tokens, spoilt(tokens.map(str.encode)).map(quote))
).map("".join)
_in_paths = _of(b"abz019-._~!$&'()*+,;=:@/%", 100).map(bytes.decode)
_targets = st.tuples(
    st.one_of(st.sampled_from(PATHS), _in_paths.map("/".__add__)),
    st.one_of(st.just(""), visible.map("?".__add__), visible.map("?token=".__add__), tokens.map("?token=".__add__)),
).map("".join)


def _request(method: str, target: str, headers: list[tuple[str, bytes]], body: bytes, chunk: int) -> bytes:
    lines = [f"{method} {target} HTTP/1.1".encode(), b"Host: daegi"]
    lines += [name.encode() + b": " + value for name, value in headers]
    if chunk:
        lines.append(b"Transfer-Encoding: chunked")
        pieces = [body[start : start + chunk] for start in range(0, len(body), chunk)]
        content = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
    else:
        lines.append(b"Content-Length: %d" % len(body))
        content = body
    return b"\r\n".join([*lines, b"", b""]) + content


_FITTING = (
    ("POST", JOIN), ("POST", ENTER), ("POST", REDEEM), ("POST", LEAVE), ("PUT", f"{ADMIN}/fuzz"), ("GET", STATUS),
    ("GET", GATES[0]), ("GET", GATES[1]), ("POST", GATES[2]), ("POST", f"{GATE}/release"), ("GET", ROOM),
    ("GET", f"{ROOM}/place"), ("POST", f"{ROOM}/join"), ("POST", f"{ROOM}/enter"), ("POST", f"{ROOM}/leave"),
)  # fmt: skip


def _request_to(method: str, path: str, content: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    return st.builds(_request, st.just(method), st.just(path), _headers, content, st.integers(0, 40))


# Most of them reach a handler, because the method fits the path and is not left to chance.
requests = st.one_of(
    *(_request_to(*fit, bodies) for fit in _FITTING),
    st.builds(_request, st.sampled_from(["GET", "POST", "DELETE"]), _with_tokens, _headers, bodies, st.just(0)),
    st.builds(_request, st.sampled_from(_METHODS), _targets, _headers, bodies, st.integers(0, 40)),
)
"""Requests that are well formed as HTTP, whatever they ask for."""

_SPLITTING = (
    b"\r\n", b"\n", b"\r", b"\0", b" ", b": ", b"\r\n\r\n", b"%00", b"\xff", b"HTTP/1.0", b"HTTP/9.9",
    b"\r\nContent-Length: 5", b"\r\nContent-Length: -1", b"\r\nContent-Length: 99999999999999999999",
    b"\r\nTransfer-Encoding: chunked", b"\r\nTransfer-Encoding: identity", b"\r\n Transfer-Encoding : chunked",
    b"\r\nConnection: close", b"\r\nExpect: 100-continue", b"\r\nUpgrade: websocket\r\nConnection: Upgrade",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"x" * 70_000, b"\r\na: b" * 200,
)  # fmt: skip
torn = spoilt(
    st.lists(st.one_of(*(_request_to(*fit, likely) for fit in _FITTING)), min_size=1, max_size=2).map(b"".join),
    *_SPLITTING,
)
"""One or two requests that violate HTTP itself in some place."""
