"""Debian's Chromium for tests, and what every page has to be: nothing cut, nothing that axe finds."""

import shutil

from tests.support.paths import ROOT

CHROMIUM = shutil.which("chromium")
"""None where there is none. Browsers are never downloaded."""

FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
)
AXE = ROOT / ".venv" / "node" / "node_modules" / "axe-core" / "axe.min.js"
"""Installed by `make look` and `make test-browser`, with npm."""

CUT = """() => {
  const cut = [...document.querySelectorAll("body *:not(.spoken)")].filter((element) =>
    element.checkVisibility() && (element.scrollWidth > element.clientWidth + 1)
    && getComputedStyle(element).display !== "inline");
  const wide = document.documentElement.scrollWidth > innerWidth ? ["the page"] : [];
  return wide.concat(cut.map((element) => element.tagName + "#" + element.id + " " + element.textContent.slice(0, 40)));
}"""
"""A script: the elements whose text is cut, and `the page` if it is wider than its window."""

AXE_RUN = """() => axe.run().then((found) => found.violations.map((one) =>
  one.id + ": " + one.nodes.map((node) => node.target.join(" ")).join(", ")))"""
"""A script: what axe, which must have been loaded, finds."""
