"""A site that Queue-it's public JavaScript connector guards, under Node, and browsers that come to it."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import httpx

from tests.support.paths import ROOT

NODE_MODULES = ROOT / ".venv" / "node" / "node_modules"
PACKAGE = NODE_MODULES / "@queue-it" / "connector-javascript"

CUSTOMER = "acme"
SECRET = "the secret that a site and its waiting room share"

MOST_REDIRECTS = 12
"""Browsers give up after about 20."""


def missing() -> str:
    """Why there can be no such site here; '' if there can."""
    if shutil.which("node") is None:
        return "needs node"
    return "" if PACKAGE.is_dir() else "needs npm: `make test` installs the connector with it"


class Way(NamedTuple):
    """How a browser fared: every URL that it asked for, and the last answer."""

    urls: list[str]
    answer: httpx.Response


class Browser:
    """A browser that follows redirects and keeps cookies; `site` is what the site is to be like for it."""

    def __init__(self, visitor: httpx.AsyncClient, **site: object) -> None:
        self.visitor, self.site = visitor, site

    async def go(self, url: str, **site: object) -> Way:
        """Asks for a page, and for those that it leads to; `site` overrides what the site is like from now on."""
        self.site |= site
        urls = [url]
        while True:
            answer = await self.visitor.get(urls[-1], headers={"X-Site": json.dumps(self.site)})
            if "location" not in answer.headers or len(urls) > MOST_REDIRECTS:
                return Way(urls, answer)
            # A connector knows https alone, and nothing here speaks TLS.
            after = str(answer.url.join(answer.headers["location"]))
            urls.append(after.replace("https://127.0.0.1:", "http://127.0.0.1:"))


@contextmanager
def running_site() -> Iterator[str]:
    """Runs one; yields its origin."""
    command = ["node", str(ROOT / "tests/sites/connector_site.mjs"), str(NODE_MODULES.parent)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.kill()
