"""Requests that are refused for their form, with the status and code of each. No refusal needs Redis."""

import gzip
from typing import NamedTuple

from shared.tokens.signer import Signer
from tests.support.listening import STREAM
from tests.support.raw_http import post
from tests.support.settings import SECRET

JOIN, STATUS, ENTER = "/api/v1/queue/join", "/api/v1/queue/status", "/api/v1/queue/enter"
LEAVE, REDEEM = "/api/v1/queue/leave", "/api/v1/queue/redeem"
OURS, STRANGER = Signer([SECRET]), Signer(["a secret that was retired, or never ours"])
TICKET, LEASE = 1_795_489_214_696_517, 1_795_489_214_883


class Bad(NamedTuple):
    """One of them."""

    name: str
    request: bytes
    status: int
    code: str


def _get(path: str, query: str = "", method: str = "GET", *headers: str) -> bytes:
    target = f"{path}?{query}" if query else path
    return "\r\n".join((f"{method} {target} HTTP/1.1", "Host: daegi", *headers, "", "")).encode("latin-1")


def _chunked(path: str, size: int) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: daegi\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    return head + (b"1000\r\n" + b" " * 0x1000 + b"\r\n") * (size // 0x1000) + b"0\r\n\r\n"


def _joins() -> list[Bad]:
    refused: list[tuple[str, object, str]] = [
        ("a body that is no JSON", b"event_id=concert", "INVALID_REQUEST"),
        ("a broken body that curl calls a form", b"{'event_id': 'concert'}", "INVALID_REQUEST"),
        ("no body", b"", "INVALID_REQUEST"),
        ("a list", [], "INVALID_REQUEST"),
        ("a text", "concert", "INVALID_REQUEST"),
        ("a number", 17, "INVALID_REQUEST"),
        ("null", None, "INVALID_REQUEST"),
        ("no event_id", {}, "MISSING_EVENT_ID"),
        ("event_id null", {"event_id": None}, "MISSING_EVENT_ID"),
        ("event_id empty", {"event_id": ""}, "MISSING_EVENT_ID"),
        ("event_id a number", {"event_id": 17}, "INVALID_REQUEST"),
        ("event_id a list", {"event_id": ["concert"]}, "INVALID_REQUEST"),
        ("event_id an object", {"event_id": {"concert": 1}}, "INVALID_REQUEST"),
        ("event_id true", {"event_id": True}, "INVALID_REQUEST"),
        ("event_id too long", {"event_id": "x" * 65}, "INVALID_REQUEST"),
        *((f"event_id {name!r}", {"event_id": name}, "INVALID_REQUEST") for name in ODD_NAMES),
        ("user_id a number", {"event_id": "concert", "user_id": 17}, "INVALID_REQUEST"),
        ("user_id a list", {"event_id": "concert", "user_id": []}, "INVALID_REQUEST"),
        ("user_id too long", {"event_id": "concert", "user_id": "x" * 129}, "INVALID_REQUEST"),
        ("user_id half a character", {"event_id": "concert", "user_id": "\ud800"}, "INVALID_REQUEST"),
        ("bytes that are no UTF-8", b'{"event_id": "concert", "user_id": "\xff\xfe"}', "INVALID_REQUEST"),
        ("UTF-16", '{"event_id": "concert"}'.encode("utf-16"), "INVALID_REQUEST"),
        ("two byte order marks", b'\xef\xbb\xbf\xef\xbb\xbf{"event_id": "concert"}', "INVALID_REQUEST"),
        ("a byte order mark alone", b"\xef\xbb\xbf", "INVALID_REQUEST"),
        ("half an object", b'{"event_id": "concert"', "INVALID_REQUEST"),
        ("an object and more", b'{"event_id": "concert"} {}', "INVALID_REQUEST"),
        ("NaN", b'{"event_id": NaN}', "INVALID_REQUEST"),
        ("a bare NUL", b'{"event_id": "con\0cert"}', "INVALID_REQUEST"),
        ("deep JSON", b'{"x": ' + b"[" * 8000 + b"]" * 8000 + b"}", "INVALID_REQUEST"),
        ("deep JSON without an end", b"[" * 16_000, "INVALID_REQUEST"),
        ("a huge number", b'{"event_id": 1' + b"0" * 8000 + b"}", "INVALID_REQUEST"),
        ("a number beyond all", b'{"event_id": 1e999999}', "INVALID_REQUEST"),
        ("the last of two event_ids bad", b'{"event_id": "concert", "event_id": 17}', "INVALID_REQUEST"),
    ]
    sound = {"event_id": "concert"}
    return [
        *(Bad(f"join: {name}", post(JOIN, body), 400, code) for name, body, code in refused),
        *(
            Bad(f"join: key {len(key)} long", post(JOIN, sound, f"Idempotency-Key: {key}"), 400, "INVALID_REQUEST")
            for key in ("", "k" * 15, "k" * 129, "k" * 4000)
        ),
        *(
            Bad(f"join: {name}", post(JOIN, body, *headers), 415, "UNSUPPORTED_MEDIA_TYPE")
            for name, body, headers in (
                ("a form", b"event_id=concert", (FORM,)),
                (
                    "a form in capitals",
                    b"event_id=concert",
                    ("Content-Type: Application/X-WWW-Form-Urlencoded;charset=utf-8",),
                ),
                ("a form with files", b"--x\r\n\r\n--x--", ("Content-Type: multipart/form-data; boundary=x",)),
                ("an empty form", b"", (FORM,)),
                ("gzip", gzip.compress(b'{"event_id": "concert"}'), ("Content-Encoding: gzip",)),
                ("Brotli that is none", b"\x8b", ("Content-Encoding: br", FORM)),
            )
        ),
        *(
            Bad(f"join: key {key!r}", post(JOIN, sound, f"Idempotency-Key: {key}"), 400, "INVALID_REQUEST")
            for key in ("a-key-of-sixteen-or-more-\xe9", "a-key-of-sixteen-or-more-\xc3\xa9", "\xff" * 32)
        ),
        Bad("join: a body too large", post(JOIN, b" " * 16_385), 413, "PAYLOAD_TOO_LARGE"),
        Bad("join: said to be too large", _declared(16_385), 413, "PAYLOAD_TOO_LARGE"),
        Bad("join: said to be far too large", _declared(10**12), 413, "PAYLOAD_TOO_LARGE"),
        Bad("join: too large in chunks", _chunked(JOIN, 0x8000), 413, "PAYLOAD_TOO_LARGE"),
    ]


FORM = "Content-Type: application/x-www-form-urlencoded"

ODD_NAMES = (
    " ", "a b", "a/b", "a~b", "a{b}", "concert\n", "\0", "a\0b", "대기", "á", "..%2f", "a*", "{}", "'", "\u2028",
    f"victim~{TICKET}", f"w~victim~{TICKET}",
)  # fmt: skip


def _declared(size: int) -> bytes:
    return f"POST {JOIN} HTTP/1.1\r\nHost: daegi\r\nContent-Length: {size}\r\n\r\n".encode()


def _tokens() -> list[tuple[str, str]]:
    token = OURS.waiting("concert", TICKET, LEASE)
    body, _, mac = token.rpartition("~")
    return [
        ("nonsense", "nonsense"),
        ("separators only", "~~~~"),
        ("with a forged MAC", f"{body}~{'A' * 22}"),
        ("without a MAC", f"{body}~"),
        ("cut short", token[:-1]),
        ("with more behind it", token + "A"),
        ("of another event", token.replace("concert", "festival")),
        ("with the MAC of another event", f"w~festival~{TICKET}~{LEASE}~{mac}"),
        ("of another ticket", token.replace(str(TICKET), str(TICKET - 1))),
        ("with a stretched lease", token.replace(str(LEASE), str(LEASE + 1000))),
        ("with its lease cut out", token.replace(f"~{LEASE}", "")),
        ("with a lease put in", OURS.waiting("concert", TICKET).replace(f"{TICKET}~", f"{TICKET}~{LEASE}~")),
        ("of a retired secret", STRANGER.waiting("concert", TICKET, LEASE)),
        ("of another case", token.upper()),
        ("very long", token * 20),
    ]


def _of_tokens() -> list[Bad]:
    found = []
    reservation = OURS.reservation("concert", TICKET, LEASE)
    for name, token in (*_tokens(), ("that is a reservation", reservation)):
        found += [
            Bad(f"status: a token {name}", _get(STATUS, f"token={token}"), 400, "INVALID_TOKEN"),
            Bad(f"stream: a token {name}", _get(STREAM, f"token={token}"), 400, "INVALID_TOKEN"),
            Bad(f"enter: a token {name}", post(ENTER, {"waiting_token": token}), 400, "INVALID_TOKEN"),
            Bad(f"leave: a token {name}", _get(LEAVE, f"token={token}", "DELETE"), 400, "INVALID_TOKEN"),
        ]
    for name, token in (
        ("that is a waiting token", OURS.waiting("concert", TICKET)),
        ("that is a leased token", OURS.waiting("concert", TICKET, LEASE)),
        ("that is a relabelled leased token", "r" + OURS.waiting("concert", TICKET, LEASE)[1:]),
        ("with a forged MAC", f"r~concert~{TICKET}~{LEASE}~{'A' * 22}"),
        ("of another issue", reservation.replace(str(LEASE), str(LEASE + 1))),
        ("of a retired secret", STRANGER.reservation("concert", TICKET, LEASE)),
    ):
        found.append(Bad(f"redeem: a token {name}", post(REDEEM, {"reservation_token": token}), 400, "INVALID_TOKEN"))
    return found


def _without_tokens() -> list[Bad]:
    found = []
    for path, method in ((STATUS, "GET"), (LEAVE, "DELETE"), (LEAVE, "POST")):
        said = f"{method} {path}"
        found += [
            Bad(f"{said}: no query", _get(path, "", method), 400, "MISSING_TOKEN"),
            Bad(f"{said}: an empty token", _get(path, "token=", method), 400, "MISSING_TOKEN"),
            Bad(f"{said}: another parameter", _get(path, "tokens=x", method), 400, "MISSING_TOKEN"),
            Bad(f"{said}: very many parameters", _get(path, "a=1&" * 200 + "token=x", method), 400, "MISSING_TOKEN"),
            Bad(f"{said}: NUL in the token", _get(path, "token=%00", method), 400, "INVALID_TOKEN"),
            Bad(f"{said}: no UTF-8 in the token", _get(path, "token=%ff%fe", method), 400, "INVALID_TOKEN"),
            Bad(f"{said}: a broken escape in the token", _get(path, "token=%zz%", method), 400, "INVALID_TOKEN"),
        ]
    for path, field in ((ENTER, "waiting_token"), (REDEEM, "reservation_token")):
        missing = "MISSING_TOKEN" if path == ENTER else "INVALID_TOKEN"
        found += [
            Bad(f"{path}: no token", post(path, {}), 400, missing),
            Bad(f"{path}: token null", post(path, {field: None}), 400, missing),
            Bad(f"{path}: token empty", post(path, {field: ""}), 400, missing),
            Bad(f"{path}: token a number", post(path, {field: 17}), 400, "INVALID_REQUEST"),
            Bad(f"{path}: token a list", post(path, {field: []}), 400, "INVALID_REQUEST"),
            Bad(f"{path}: half a character", post(path, {field: "\ud800"}), 400, "INVALID_REQUEST"),
            Bad(f"{path}: NUL in the token", post(path, {field: "w~\0"}), 400, "INVALID_TOKEN"),
            Bad(f"{path}: no JSON", post(path, b"token"), 400, "INVALID_REQUEST"),
            Bad(f"{path}: a list", post(path, []), 400, "INVALID_REQUEST"),
            Bad(f"{path}: too large", post(path, b" " * 16_385), 413, "PAYLOAD_TOO_LARGE"),
        ]
    return found


def _elsewhere() -> list[Bad]:
    wrong_methods = [
        *((path, method) for path in (JOIN, ENTER, REDEEM) for method in ("GET", "PUT", "DELETE", "BREW")),
        *((STATUS, method) for method in ("POST", "DELETE", "HEADS")),
        *((LEAVE, method) for method in ("GET", "PUT", "PATCH")),
        ("/healthz", "POST"),
        ("/readyz", "DELETE"),
        ("/api/v1/admin/events", "POST"),
    ]
    no_paths = (
        "/", "/api", "/api/v1/queue", f"{JOIN}/", f"/{JOIN}", "/api/v2/queue/join", "/favicon.ico", "/%00", "/%ff",
        "/api/v1/queue/%6aoin/x", "/api/v1/admin", "/api/v1/admin/event", "/etc/../etc/passwd",
    )  # fmt: skip
    return [
        *(Bad(f"{method} {path}", _get(path, "", method), 405, "METHOD_NOT_ALLOWED") for path, method in wrong_methods),
        *(Bad(f"no path {path}", _get(path), 404, "NOT_FOUND") for path in no_paths),
        *(
            Bad(f"admin: {given}", _get("/api/v1/admin/events", "", "GET", *given), 401, "UNAUTHORIZED")
            for given in (
                (),
                ("Authorization: Bearer",),
                ("Authorization: Bearer wrong",),
                ("Authorization: Basic an-admin-key-of-the-tests",),
                ("Authorization: an-admin-key-of-the-tests",),
                ("Authorization: Bearer an-admin-key-of-the-tests-",),
                ("Authorization: Bearer \xe1\xff",),
            )
        ),
    ]


BAD = [*_joins(), *_of_tokens(), *_without_tokens(), *_elsewhere()]
