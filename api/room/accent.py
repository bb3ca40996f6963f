"""An event's own colour, made safe: whatever it is, what is written on it or in it can be read."""

import re
from collections.abc import Iterator

PAPER, NIGHT = (0xFB, 0xFA, 0xF8), (0x14, 0x14, 0x13)
"""The background in light and in dark, as assets/style.css has them."""

_CONTRAST = 4.5
"""What WCAG 2.2 AA asks of text."""

_ACCENT = re.compile(r"#?([0-9a-fA-F]{3}|[0-9a-fA-F]{6})")
_BLACK, _WHITE = (0, 0, 0), (255, 255, 255)

Colour = tuple[int, int, int]


def six_digits(accent: str) -> str | None:
    """`#1af` and `11AAFF` as `11aaff`; None for anything that is not a colour."""
    found = _ACCENT.fullmatch(accent)
    if found is None:
        return None
    digits = found[1].lower()
    return digits if len(digits) == 6 else "".join(digit * 2 for digit in digits)


def style_sheet(digits: str) -> bytes:
    """The style sheet for six digits: the colour as a surface, what is written on it, and the colour as ink."""
    accent: Colour = (int(digits[:2], 16), int(digits[2:4], 16), int(digits[4:], 16))
    on_accent = max(_BLACK, _WHITE, key=lambda ink: contrast(ink, accent))
    return (
        f":root{{--accent:{_css(accent)};--on-accent:{_css(on_accent)};"
        f"--accent-ink:{_css(_readable(accent, PAPER, _BLACK))}}}\n"
        f"@media (prefers-color-scheme:dark){{:root{{--accent-ink:{_css(_readable(accent, NIGHT, _WHITE))}}}}}\n"
    ).encode()


def contrast(one: Colour, other: Colour) -> float:
    """The contrast ratio of WCAG, 1 to 21."""
    dark, light = sorted((_luminance(one), _luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def _readable(accent: Colour, background: Colour, towards: Colour) -> Colour:
    return next(colour for colour in _mixed(accent, towards) if contrast(colour, background) >= _CONTRAST)


def _mixed(accent: Colour, towards: Colour) -> Iterator[Colour]:
    for step in range(21):
        red, green, blue = (round(a + (b - a) * step / 20) for a, b in zip(accent, towards, strict=True))
        yield red, green, blue


def _luminance(colour: Colour) -> float:
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in (one / 255 for one in colour)
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _css(colour: Colour) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)
