"""Whether the time of a refusal reveals how much of a forged MAC was right: ``python -m tests.load.timing``.

Tokens with a wrong first or a wrong last letter in the MAC are refused in turns, block by block, so that other load on
the machine affects both. As a control, a letter by letter comparison shows that a difference would be visible.
The exit code is 1 if ours shows one, 2 if the machine is too busy to see it in the control.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Sequence
from unittest import mock

from shared.errors import InvalidTokenError
from shared.tokens.signer import Signer

_BLOCK = 500
"""Refusals that are timed together: for a single one, reading the clock would be much of the time."""

_TOLERATED = 0.02
"""The share of a refusal's time by which the two may differ: a letter by letter comparison differs by far more."""


def letter_by_letter(ours: str, given: str) -> bool:
    """A comparison as it must not be."""
    if len(ours) != len(given):
        return False
    for one, other in zip(ours, given, strict=True):  # noqa: SIM110 - all() would hide what is compared with
        if one != other:
            return False
    return True


def measure(rounds: int) -> tuple[float, float]:
    """The median time in us of a refusal for the MAC's last letter, and its ratio to that for the first letter."""
    signer = Signer(["a secret of this benchmark"])
    body, _, mac = signer.waiting("concert", 1_795_489_214_696_517, 1_795_489_214_883).rpartition("~")
    wrong_first = f"{body}~{'A' if mac[0] != 'A' else 'B'}{mac[1:]}"
    wrong_last = f"{body}~{mac[:-1]}{'A' if mac[-1] != 'A' else 'B'}"
    first, last, ratios = [], [], []
    for number in range(rounds):
        # The second one in a round finds warmer caches, so they take turns.
        if number % 2:
            first.append(_refusals(signer, wrong_first))
            last.append(_refusals(signer, wrong_last))
        else:
            last.append(_refusals(signer, wrong_last))
            first.append(_refusals(signer, wrong_first))
        ratios.append(last[-1] / first[-1])
    return statistics.median(last) / _BLOCK * 1e6, statistics.median(ratios)


def _refusals(signer: Signer, token: str) -> float:
    begin = time.perf_counter()
    for _ in range(_BLOCK):
        try:
            signer.verify_waiting(token)
        except InvalidTokenError:
            continue
        raise AssertionError("a forged token was taken")
    return time.perf_counter() - begin


def main(argv: Sequence[str] | None = None) -> int:
    """Measures both and prints the ratios."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.load.timing", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=1000)
    rounds: int = parser.parse_args(argv).rounds
    spent, ratio = measure(rounds)
    print(f"ours             {spent:5.2f} us, wrong at the end to wrong at the beginning: {ratio:.4f}")
    with mock.patch("shared.tokens.signer.compare_digest", letter_by_letter):
        spent, control = measure(rounds)
    print(f"letter by letter {spent:5.2f} us, wrong at the end to wrong at the beginning: {control:.4f}")
    if control < 1 + 2 * _TOLERATED:
        print("the control was not seen: measure again on a quieter machine", file=sys.stderr)
        return 2
    return int(abs(ratio - 1) > _TOLERATED)


if __name__ == "__main__":
    sys.exit(main())
