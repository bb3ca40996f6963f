"""What documents, comments and rules refer to exists: files, sections, tests, log messages."""

import re
import tomllib
from itertools import pairwise
from pathlib import Path

import pytest

from tests.support.paths import ROOT

FOLDERS = ("api", "shared", "tests", "workers")
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.md"))])
SOURCES = sorted(
    path
    for folder in FOLDERS
    for path in (ROOT / folder).rglob("*")
    if path.suffix in {".json", ".lua", ".py", ".yml"} and "results" not in path.parts
)
LINK = re.compile(r"\[[^\]]+\]\(([^)#\s]*)(?:#([^)\s]+))?\)")
CITATION = re.compile(r"([\w/]+\.md)(?:, \"([^\"]+)\")?")


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def sections(document: Path) -> list[str]:
    """The headings, without those that code blocks seem to have."""
    text = re.sub(r"^```.*?^```", "", document.read_text(), flags=re.MULTILINE | re.DOTALL)
    return re.findall(r"^#+ (.+)$", text, re.MULTILINE)


def anchors(document: Path) -> set[str]:
    """What links to sections are written as."""
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in sections(document)}


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_a_link_leads_somewhere(document: Path) -> None:
    dead = []
    for path, anchor in LINK.findall(document.read_text()):
        target = (document.parent / path).resolve() if path else document
        if not target.exists() or (anchor and anchor not in anchors(target)):
            dead.append(f"{path}#{anchor}")
    assert dead == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_a_file_that_is_named_exists(document: Path) -> None:
    named = re.findall(rf"`((?:{'|'.join(FOLDERS)})/[\w/.]*)`", document.read_text())
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_a_document_that_is_cited_has_the_section() -> None:
    lost = []
    for source in SOURCES:
        for path, section in CITATION.findall(source.read_text()):
            document = ROOT / path
            if not document.is_file() or (section and section not in sections(document)):
                lost.append((name(source), path, section))
    assert lost == []


def test_every_promise_names_the_tests_that_hold_it_up() -> None:
    promises = (ROOT / "tests" / "README.md").read_text().partition("## What we promise\n")[2]
    rows = [row for row in promises.splitlines() if row.startswith("| ")][1:]
    assert len(rows) > 15
    assert [row for row in rows if not re.search(r"`tests/[\w/]+\.py`(?:, `tests/[\w/]+\.py`)* \|$", row)] == []


def test_log_messages_that_the_run_book_tells_to_look_for_are_written() -> None:
    run_book = ROOT / "shared/observability/RUNBOOK.md"
    entries = run_book.read_text().partition("## When an alert fires\n")[2].partition("\n## ")[0]
    messages = re.findall(r"`([a-z]+(?: [a-z]+)+)`", entries)
    code = "".join(source.read_text() for source in SOURCES if source.suffix == ".py" and "tests" not in source.parts)
    assert len(messages) >= 3
    assert [message for message in messages if f'"{message}' not in code] == []


def test_the_changelog_keeps_its_form() -> None:
    headings = re.findall(r"^(##+) (.+)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    versions = [text for marks, text in headings if marks == "##"]
    kinds = [text for marks, text in headings if marks == "###"]
    assert versions[0] == "[Unreleased]"
    released = [re.fullmatch(r"\[(\d+)\.(\d+)\.(\d+)\] - \d{4}-\d\d-\d\d", text) for text in versions[1:]]
    assert all(released)
    numbers = [tuple(map(int, version.groups())) for version in released if version]
    assert all(newer > older for newer, older in pairwise(numbers))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert tuple(map(int, project["version"].split("."))) in numbers
    assert set(kinds) <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
