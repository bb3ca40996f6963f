"""What visitors of a protected site do: ask for a page through the gate, come to the room, go in."""

from hashlib import blake2b

import httpx

from shared.tokens.signer import PassToken, Signer
from tests.support.settings import SECRET

SIGNER = Signer([SECRET])


async def ask_gate(
    visitor: httpx.AsyncClient, event: str, url: str = "/checkout", *, dialect: str = "forwarded", method: str = "GET"
) -> httpx.Response:
    """What the gate says of a visitor's request, in the words of a proxy."""
    told = {"X-Original-URI": url, "X-Forwarded-Uri": url, "X-Forwarded-Method": method}
    rest = url.partition("?")[0] if dialect == "envoy" else ""
    query = url.partition("?")[2] if dialect == "envoy" else ""
    how = method if dialect == "envoy" else "GET"
    path = f"/api/v1/gate/{event}/{dialect}/authorize{rest}"
    return await visitor.request(how, path, params=query or None, headers=told)


async def visit_room(visitor: httpx.AsyncClient, event: str, next_url: str = "/checkout") -> httpx.Response:
    """Goes to the room as a browser does: the first answer that does not lead back to it."""
    url = f"/waiting-room/{event}?next={next_url}"
    for _ in range(4):
        answer = await visitor.get(url)
        if answer.status_code != 303 or not answer.headers["location"].startswith("/waiting-room/"):
            return answer
        url = answer.headers["location"]
    raise AssertionError("the room sends its visitor around in circles")


def pass_of(visitor: httpx.AsyncClient) -> PassToken:
    """The pass among the visitor's cookies."""
    (text,) = (value for name, value in visitor.cookies.items() if name.startswith("daegi_p_"))
    return SIGNER.verify_pass(text)


def waiting_cookie(event: str, token: str) -> str:
    """The cookie of somebody who has this place, over http."""
    return f"daegi_w_{blake2b(event.encode(), digest_size=5).hexdigest()}={token}"
