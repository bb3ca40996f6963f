"""What every script promises in its header, held against its source and against the method that calls it."""

import ast
import inspect
import re
from collections.abc import Callable
from enum import IntEnum
from pathlib import Path

import pytest

from shared.line import line as line_module
from shared.line import replies
from shared.line.keys import EventKeys
from shared.line.scripts import assemble, included_by, load_script

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
        assert documented[1] == "as keys"
        assert "event" in included_by(STEPS[name])
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
    names = re.search(r"^local (LOG,[\w,\s]+?) = unpack\(KEYS\)", LIBRARY["keys"], re.MULTILINE)
    assert names
    ours = [name.strip().lower() for name in names[1].split(",")]
    theirs = {"stream": "log", "queue": "line", "position_index": "index"}
    assert ours == [theirs.get(field, field) for field in EventKeys._fields]


def test_the_settings_have_a_name_each_in_the_order_in_which_they_are_given() -> None:
    names = re.search(r"^  local ([\w,\s]+?) =\s+unpack\(ARGV, 1, STEP - 1\)", LIBRARY["event"], re.MULTILINE)
    assert names
    clock, rate, burst, *times = [name.strip() for name in names[1].split(",")]
    assert [clock, rate, burst] == ["clock", "rate", "burst"]
    assert f"local STEP = {len(times) + 4}\n" in LIBRARY["event"]
    header_says = re.findall(r"(\d) +(\w+)(?=   |,|$| override)", "\n".join(header(LIBRARY["event"])), re.MULTILINE)
    assert dict(header_says) == {str(i): name for i, name in enumerate([clock, rate, burst, *times], 1)}
    # What is given is what _settings of Line holds, each a setting of the same name.
    source = inspect.getsource(line_module.Line.__init__)
    given = re.findall(r"settings\.(\w+)", source[source.index("self._settings =") :])
    assert [name.removeprefix("admit_") for name in given] == [rate, burst, *times]


def defined(source: str) -> set[str]:
    """What a library file defines, at the margin."""
    found = re.findall(r"^local (?:function (\w+)|([\w,\s]+?) =)", code(source), re.MULTILINE)
    return {name.strip() for function, names in found for name in (function or names).split(",")}


@pytest.mark.parametrize("name", LIBRARY)
def test_a_library_file_only_defines(name: str) -> None:
    source = code(LIBRARY[name])
    # At the margin stand functions and constants, names of Redis's and Lua's own functions, and those of the keys.
    functions = r"^local function \w+\([\w, .]*\)(?: .* end$|\n(?:(?: .*)?\n)*?end$)"
    rest = re.sub(functions, "", source, flags=re.MULTILINE)
    value = r"(?:-?\d+(?:\.\d+)?|(?:redis|math|string)\.\w+)"
    rest = re.sub(rf"^local [A-Z_a-z, \n]+= {value}(?:, {value})*$", "", rest, flags=re.MULTILINE)
    assert rest.split() == ([] if name != "keys" else re.findall(r"local LOG[^=]*= unpack\(KEYS\)", source)[0].split())
    assert not re.search(r"^(?!local )\w+ *=", source, re.MULTILINE)


@everything
def test_a_file_includes_what_it_uses_and_no_more(source: str) -> None:
    without_strings = re.sub(r"'[^']*'", "''", code(source))
    # A field of a table, and a function of a local, may have the name of something in a library.
    words = set(re.findall(r"(?<![.\w])[A-Za-z_]\w*", without_strings))
    names = {part: defined(text) - defined(source) for part, text in LIBRARY.items() if text != source}
    assert {part for part, ours in names.items() if words & ours} == set(included_by(source))


def test_no_two_library_files_define_the_same_name() -> None:
    names = [name for source in LIBRARY.values() for name in defined(source)]
    assert sorted(names) == sorted(set(names))
    assert {"call", "read_clock", "LOG", "load_event", "open_door", "depart", "ENTER_PAUSED"} < set(names)


@pytest.mark.parametrize("name", STEPS)
def test_a_script_has_each_file_once_and_after_those_that_it_includes(name: str) -> None:
    source = load_script(name).source
    assert source.endswith(STEPS[name])
    starts = {part: source.find(text) for part, text in LIBRARY.items() if text in source}
    assert all(source.count(LIBRARY[part]) == 1 for part in starts)
    assert set(included_by(STEPS[name])) <= starts.keys()
    for part, start in starts.items():
        assert all(starts[other] < start for other in included_by(LIBRARY[part]))


@pytest.mark.parametrize("name", [name for name in STEPS if "event" in included_by(STEPS[name])])
def test_a_step_of_an_event_refuses_before_it_does_anything(name: str) -> None:
    refusal = "local event, refused = load_event()\nif refused then return refused end\n"
    assert code(STEPS[name]).lstrip().startswith(refusal)


@pytest.mark.parametrize(
    "kind",
    [
        replies.EnqueueCode,
        replies.JoinCode,
        replies.PollCode,
        replies.EnterCode,
        replies.RedeemCode,
        replies.RelogCode,
    ],
)
def test_the_codes_mean_the_same_in_lua_and_in_python(kind: type[IntEnum]) -> None:
    prefix = kind.__name__.removesuffix("Code").upper()
    found = re.findall(rf"^local ({prefix}_[\w, ]+) = ([-\d, ]+)$", LIBRARY["codes"], re.MULTILINE)
    ((names, numbers),) = found
    codes = dict(zip(names.split(", "), map(int, numbers.split(", ")), strict=True))
    assert codes == {f"{prefix}_{member.name}": member.value for member in kind}


def test_every_code_of_lua_is_one_of_pythons() -> None:
    prefixes = {name.partition("_")[0] for name in defined(LIBRARY["codes"])}
    assert {f"{prefix.capitalize()}Code" for prefix in prefixes} == {
        name for name, kind in vars(replies).items() if isinstance(kind, type) and name.endswith("Code")
    }


def write_library(folder: Path, **sources: str) -> None:
    (folder / "lib").mkdir()
    for name, source in sources.items():
        path = folder / "step.lua" if name == "step" else folder / "lib" / f"{name}.lua"
        path.write_text(source)


def test_what_is_included_is_resolved_through_the_library_each_file_once(tmp_path: Path) -> None:
    write_library(
        tmp_path, step="-- include: b, c\nstep", a="a", b="-- include: a\nb", c="-- include: a, b\nc", unused="unused"
    )
    assert assemble("step", tmp_path) == "a\n-- include: a\nb\n-- include: a, b\nc\n-- include: b, c\nstep"


def test_an_include_that_is_not_there_is_refused(tmp_path: Path) -> None:
    write_library(tmp_path, step="-- include: a", a="-- include: nothing")
    with pytest.raises(ValueError, match=r"^lib/a\.lua includes lib/nothing\.lua, which does not exist$"):
        assemble("step", tmp_path)


def test_files_that_include_each_other_are_refused(tmp_path: Path) -> None:
    write_library(tmp_path, step="-- include: a", a="-- include: b", b="-- include: a")
    with pytest.raises(ValueError, match=r"step\.lua -> lib/a\.lua -> lib/b\.lua -> lib/a\.lua$"):
        assemble("step", tmp_path)


def test_a_script_that_is_not_there_is_not_found() -> None:
    with pytest.raises(FileNotFoundError):
        load_script("nothing")


def test_the_name_under_which_redis_knows_a_script_follows_its_text() -> None:
    assert len({load_script(name).sha for name in STEPS}) == len(STEPS)
    assert load_script("poll") is load_script("poll")
