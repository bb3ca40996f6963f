"""`make audit`: it fails for a vulnerability, and says so when it could not look."""

import json

from tests.audit import judge

SOUND = {"name": "redis", "version": "5.3.1", "vulns": []}
BAD = {"name": "arq", "version": "0.28.0", "vulns": [{"id": "PYSEC-1", "fix_versions": ["0.28.1"], "aliases": []}]}
UNKNOWN = {"name": "uvloop", "skip_reason": "Dependency not found on PyPI and could not be audited: uvloop (0.23.0)"}


def report(*found: object) -> str:
    return json.dumps({"dependencies": found, "fixes": []})


def test_a_vulnerability_fails_and_is_named() -> None:
    code, told = judge(report(SOUND, BAD, UNKNOWN), "Found 1 known vulnerability in 1 package")
    assert code == 1
    assert told.splitlines() == [
        "arq 0.28.0: PYSEC-1, fixed in 0.28.1",
        "not checked: uvloop",
        "1 of 2 versions have known vulnerabilities",
    ]


def test_without_one_it_passes() -> None:
    assert judge(report(SOUND), "") == (0, "0 of 1 versions have known vulnerabilities")


def test_it_says_that_nothing_was_checked_and_why() -> None:
    for broken, trouble, reason in (
        ("", "Traceback ...\nConnectionError: Failed to resolve 'host'\n", "ConnectionError: Failed to resolve 'host'"),
        ("", "", "pip-audit said nothing"),
        (report(UNKNOWN, UNKNOWN), "", "none of 2 versions"),
    ):
        code, told = judge(broken, trouble)
        assert code == 0
        assert told.startswith("NOTHING WAS CHECKED")
        assert reason in told
