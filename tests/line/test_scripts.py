"""What every script promises in its header, held against its source and against the method that calls it."""

import ast
import inspect
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from shared.line import line as line_module
from shared.line.keys import EventKeys
from shared.line.scripts import load_script

LUA = Path(line_module.__file__).parent / "lua"
STEPS = {path.stem: path.read_text() for path in sorted(LUA.glob("*.lua"))}
LIBRARY = {path.stem: path.read_text() for path in sorted(LUA.glob("lib/*.lua"))}
LABELS = ("KEYS", "ARGV", "Returns", "Complexity")

READS_A_WHOLE = {"KEYS", "SCAN", "SSCAN", "HSCAN", "ZSCAN", "HGETALL", "HKEYS", "HVALS", "SMEMBERS", "SORT"}
FOR_OPERATORS = {"FLUSHALL", "FLUSHDB", "CONFIG", "DEBUG", "SCRIPT", "SELECT", "SWAPDB", "CLIENT", "PUBLISH", "WAIT"}
EXPIRES = {"EXPIRE", "PEXPIRE", "EXPIREAT", "PEXPIREAT", "SETEX", "PSETEX", "GETEX"}
FREES_IN_THE_FOREGROUND = {"DEL"}


def header(source: str) -> list[str]:
    lines = source.splitlines()
    end = next((i for i, line in enumerate(lines) if not line.startswith("--")), len(lines))
    return [line.removeprefix("--").strip() for line in lines[:end]]


def code(source: str) -> str:
    return re.sub(r"--.*", "", source)


def commands(source: str) -> set[str]:
    return {command.upper() for command in re.findall(r"call\(\s*'(\w+)'", code(source))}


def methods() -> dict[str, list[tuple[ast.AsyncFunctionDef, ast.Call]]]:
    """Script name -> the methods of Line that call it."""
    found: dict[str, list[tuple[ast.AsyncFunctionDef, ast.Call]]] = {}
    for method in ast.walk(ast.parse(inspect.getsource(line_module.Line))):
        if isinstance(method, ast.AsyncFunctionDef):
            for call in ast.walk(method):
                if isinstance(call, ast.Call) and ast.unparse(call.func) in {"self._step", "self._run"}:
                    name = ast.unparse(call.args[0])
                    # They themselves pass on whatever name it was given.
                    if name != "name":
                        found.setdefault(ast.literal_eval(name), []).append((method, call))
    return found


def everything(test: Callable[[str], None]) -> Callable[[str], None]:
    sources = STEPS | LIBRARY
    return pytest.mark.parametrize("source", sources.values(), ids=sources)(test)


@everything
def test_a_script_begins_with_prose_and_its_contract(source: str) -> None:
    lines = header(source)
    assert re.match(r"[A-Z].*\w", lines[0]), "the first line says what it does"
    assert not lines[0].startswith(LABELS)
    text = "\n".join(lines)
    places = [re.search(rf"^(?:KEYS, )?{label}\b", text, re.MULTILINE) for label in LABELS[1:]]
    assert re.search(r"^KEYS", text, re.MULTILINE)
    assert all(places), "ARGV, Returns and Complexity are missing"
    starts = [place.start() for place in places if place]
    assert starts == sorted(starts)
    assert re.search(r"^Complexity O\(", text, re.MULTILINE)


@everything
def test_a_script_calls_nothing_that_scans_flushes_or_expires(source: str) -> None:
    forbidden = READS_A_WHOLE | FOR_OPERATORS | EXPIRES | FREES_IN_THE_FOREGROUND
    assert not forbidden & commands(source)
    # A command whose name is computed would escape the look above.
    assert not re.search(r"\b(?:p?call)\(\s*[^'\s)]", re.sub(r"redis\.call,|local call.*", "", code(source)))


@pytest.mark.parametrize("name", STEPS)
def test_a_script_is_called_by_exactly_one_typed_method(name: str) -> None:
    ((method, _),) = methods()[name]
    assert method.returns is not None
    arguments = [*method.args.args[1:], *method.args.kwonlyargs]
    assert all(argument.annotation for argument in arguments)
    assert ast.get_docstring(method)
    assert not method.name.startswith("_")


def test_no_method_calls_a_script_that_is_not_there() -> None:
    assert methods().keys() == STEPS.keys()


@pytest.mark.parametrize("name", STEPS)
def test_the_keys_of_the_header_are_those_that_the_method_gives(name: str) -> None:
    ((_, call),) = methods()[name]
    text = "\n".join(header(STEPS[name]))
    documented = re.search(r"^KEYS\s+(.*)$", text, re.MULTILINE)
    assert documented
    if ast.unparse(call.func) == "self._step":
        assert documented[1] == "as event"
        assert "include: event" in text
    else:
        keys = call.args[1]
        assert isinstance(keys, ast.Tuple)
        assert re.findall(r"\d+(?= )", documented[1]) == [str(i + 1) for i in range(len(keys.elts))]
        assert {int(i) for i in re.findall(r"KEYS\[(\d+)\]", STEPS[name])} == set(range(1, len(keys.elts) + 1))


@pytest.mark.parametrize("name", STEPS)
def test_the_arguments_of_the_header_are_those_that_the_method_gives(name: str) -> None:
    ((_, call),) = methods()[name]
    text = "\n".join(header(STEPS[name]))
    documented = re.search(r"^ARGV\s+(.*?)\nReturns", text, re.MULTILINE | re.DOTALL)
    assert documented
    given = call.args[2:]
    if ast.unparse(call.func) == "self._step":
        assert bool(given) == ("STEP" in documented[1]) == ("STEP" in code(STEPS[name]))
    else:
        numbers = [int(number) for number in re.findall(r"(?:^|\s)(\d)(?= [a-z])", documented[1])]
        fixed = [argument for argument in given if not isinstance(argument, ast.Starred)]
        assert numbers == list(range(1, len(fixed) + 1))
        assert (len(fixed) < len(given)) == ("then the" in documented[1])


def test_the_events_keys_have_a_name_each_in_the_order_in_which_they_are_given() -> None:
    names = re.search(r"^local (LOG,[\w,\s]+?) = unpack\(KEYS\)", LIBRARY["event"], re.MULTILINE)
    assert names
    ours = [name.strip().lower() for name in names[1].split(",")]
    theirs = {"stream": "log", "queue": "line", "position_index": "index"}
    assert ours == [theirs.get(field, field) for field in EventKeys._fields]


@pytest.mark.parametrize("name", [name for name in STEPS if "include: event" in STEPS[name]])
def test_a_step_of_an_event_includes_what_it_uses_and_no_more(name: str) -> None:
    (included,) = re.findall(r"^-- include: (.+)$", STEPS[name], re.MULTILINE)
    # The event comes first: the others are written in its words.
    event, *others = included.split(", ")
    assert event == "event"
    assert load_script(name).source == "\n".join([*(LIBRARY[part] for part in (event, *others)), STEPS[name]])
    uses = {"depart": r"\bdepart\(", "door": r"\b(?:open_door|attend|bring_back|in_log|position)\(|\bfresh\b"}
    assert {part for part, words in uses.items() if re.search(words, code(STEPS[name]))} == set(others)


def test_a_script_that_is_not_there_is_not_found() -> None:
    with pytest.raises(FileNotFoundError):
        load_script("nothing")


def test_the_name_under_which_redis_knows_a_script_follows_its_text() -> None:
    assert len({load_script(name).sha for name in STEPS}) == len(STEPS)
    assert load_script("poll") is load_script("poll")
