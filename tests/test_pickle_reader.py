"""Reading pickles without running them: honest files agree with pickle, hostile ones do nothing."""

import math
import os
import pickle
import random
import struct
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from msabench.data import pickle_reader
from msabench.errors import DataError
from tests.conftest import anonymous_megabytes

PROTOCOLS = pickle_reader.PROTOCOLS


def write(folder: Path, content: bytes) -> Path:
    path = folder / "file.pkl"
    path.unlink(missing_ok=True)  # earlier arrays may still view the former file
    path.write_bytes(content)
    return path


def read_back(folder: Path, value: object, protocol: int) -> object:
    return pickle_reader.read(write(folder, pickle.dumps(value, protocol)))


def same(a: object, b: object) -> bool:
    """Equal in type and value, arrays and NaN included; bytes may come as a view."""
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        equal = np.array_equal(a, b, equal_nan=a.dtype.kind in "fc")
        return a.dtype == b.dtype and a.shape == b.shape and equal
    if isinstance(a, bytes):
        return isinstance(b, (bytes, memoryview)) and a == bytes(b)
    if type(a) is not type(b):
        return False
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict) and isinstance(b, dict):
        return same(list(a.items()), list(b.items()))
    return a == b or (a != a and b != b)


ARRAYS = {
    "float64": np.arange(24.0).reshape(2, 3, 4),
    "float32": np.linspace(-1, 1, 7, dtype=np.float32),
    "not finite": np.array([np.nan, np.inf, -np.inf, -0.0]),
    "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "axes swapped": np.arange(24.0).reshape(2, 3, 4).transpose(1, 0, 2),
    "every other": np.arange(24.0).reshape(4, 6)[:, ::2],
    "reversed": np.arange(5)[::-1],
    "big-endian": np.arange(5, dtype=">f8"),
    "int": np.arange(-3, 3),
    "uint8": np.arange(256, dtype=np.uint8),
    "bool": np.array([True, False]),
    "complex": np.array([1 + 2j]),
    "no axis": np.array(3.5),
    "empty": np.zeros((0, 3, 5)),
    "text": np.array(["a", "bé", "\U0001f600", ""]),
    "big-endian text": np.array(["a", "bé"], dtype=">U2"),
    "bytes": np.array([b"ab", b"c"]),
    "objects": np.array([["x", None], ["é", 3]], dtype=object),
    "objects, fortran": np.asfortranarray(np.array([["a", "b", "c"], ["d", "e", "f"]], object)),
    "long": np.random.default_rng(0).normal(size=(300, 7)),
}

PLAIN = {
    "constants": [None, True, False],
    "integers": [0, 255, 256, 65535, 65536, -1, 2**31, -(2**31), 2**63, -(2**100)],
    "floats": [0.5, -0.0, math.inf, math.nan],
    "text": ["", "a", "é" * 300, "\ud800", "\U0001f600", "line\nbreak", "x" * 70_000],
    "bytes": [b"", b"b", bytes(range(256)), b"\xff" * 3000],
    "tuples": [(), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4), ((), ((),))],
    "dicts": {"a": {1: 2.5, None: []}, b"k": "v", True: {}},
    "many": list(range(2500)),
    "sets": [set(), {1, 2.5, "é", b"b", None}, {np.int64(3)}, set(range(2500)), {"x" * 2000}],
    "frozensets": [
        frozenset(),
        frozenset({"a", -1}),
        frozenset(range(2500)),
        {"k": frozenset("ab")},
    ],
    "scalars": [
        np.float32(1.5),
        np.float64(2),
        np.int64(-7),
        np.bool_(True),
        np.str_("hé"),
        np.str_(""),
    ],
    "dtypes": [np.dtype("f4"), np.dtype(">i2"), np.dtype("U5"), np.dtype(object)],
    "latin-1": {"b": b"b", "latin1": np.arange(3.0), "f8": "f8"},
}


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("name", ARRAYS)
def test_arrays_come_back(tmp_path: Path, name: str, protocol: int) -> None:
    array = ARRAYS[name]
    result = read_back(tmp_path, array, protocol)
    assert isinstance(result, np.ndarray)
    assert same(array, result)
    expected = pickle.loads(pickle.dumps(array, protocol))
    if array.dtype != object:
        assert result.strides == expected.strides or array.size == 0
        assert not result.flags.writeable


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("name", PLAIN)
def test_plain_data_comes_back(tmp_path: Path, name: str, protocol: int) -> None:
    assert same(PLAIN[name], read_back(tmp_path, PLAIN[name], protocol))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_all_at_once_and_the_names_of_older_numpy(tmp_path: Path, protocol: int) -> None:
    content = pickle.dumps([ARRAYS, PLAIN], protocol)
    assert same([ARRAYS, PLAIN], pickle_reader.read(write(tmp_path, content)))
    old, new = b"numpy.core.multiarray", b"numpy._core.multiarray"
    content = pickle.dumps(np.array([1, 2], np.float32), min(protocol, 4))
    if protocol >= 4:
        content = content.replace(bytes([len(new)]) + new, bytes([len(old)]) + old)
    assert same(
        np.array([1, 2], np.float32), pickle_reader.read(write(tmp_path, content.replace(new, old)))
    )


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_shared_values_stay_shared(tmp_path: Path, protocol: int) -> None:
    array, items, pair = np.arange(3.0), [1, 2], ("a", 2.5)
    names = np.array(["x"], object)
    value = {"first": [array, items, pair, names], "second": [array, items, pair, names]}
    result = read_back(tmp_path, value, protocol)
    assert isinstance(result, dict)
    assert all(a is b for a, b in zip(result["first"], result["second"], strict=True))


plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.binary()
    | st.text(st.characters()),
    lambda inner: (
        st.lists(inner)
        | st.lists(inner).map(tuple)
        | st.dictionaries(st.text() | st.integers() | st.binary(), inner)
    ),
    max_leaves=30,
)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(value=plain, protocol=st.sampled_from(PROTOCOLS))
def test_any_plain_data_comes_back(tmp_path: Path, value: object, protocol: int) -> None:
    assert same(value, read_back(tmp_path, value, protocol))


class Calls:
    """Pickles as a call."""

    def __init__(self, function: object, *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple:
        return self.call


class Plain:
    """Pickles as an object with state."""

    def __init__(self) -> None:
        self.state = 1


class Index(int):
    """Pickles as a subclass of a plain type."""


def hostile(marker: Path) -> dict[str, tuple[object, str]]:
    """What each hostile value is, and the word by which it must be refused."""
    command = f"touch {marker}"
    code = f"open({str(marker)!r}, 'w')"
    return {
        "system": (Calls(os.system, command), "posix.system"),
        "within an array": (np.array([Calls(os.system, command)], object), "posix.system"),
        "eval": (Calls(eval, code), "eval"),
        "exec": (Calls(exec, code), "exec"),
        "open": (Calls(open, str(marker), "w"), "io.open"),
        "popen": (Calls(subprocess.Popen, ["touch", str(marker)]), ".Popen"),
        "getattr": (Calls(getattr, "x", "upper"), "getattr"),
        "numpy.load": (Calls(np.load, str(marker)), "numpy"),
        "object": (Plain(), "Plain"),
        "subclass": (Index(3), "Index"),
        "set of tuples": ({(1, 2)}, "a set element of type tuple"),
        "function": (len, "len"),
        "ndarray itself": ([np.ndarray], "numpy.ndarray itself"),
        "ndarray called": (Calls(np.ndarray, (3,)), "numpy.ndarray is called"),
        "dtype called": (Calls(np.dtype, "f8,f8"), "dtype 'f8,f8'"),
        "records": (np.zeros(2, [("a", "f4")]), "V4"),
        "subarray": (np.dtype((np.float32, (2, 2))), "V16"),
        "dates": (np.array(["2020"], "M8[D]"), "M8"),
        "dictionary of tuples": ({(1, 2): 3}, "dict key"),
        "encoding": (Calls(__import__("codecs").encode, "x", "rot13"), "_codecs.encode is called"),
    }


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("name", hostile(Path("x")))
def test_all_else_is_refused_by_name_and_does_nothing(
    tmp_path: Path, name: str, protocol: int
) -> None:
    marker = tmp_path / "marker"
    value, word = hostile(marker)[name]
    with pytest.raises(DataError, match=r"byte \d+: refused: ") as caught:
        read_back(tmp_path, value, protocol)
    message = str(caught.value)
    assert message.startswith(str(tmp_path / "file.pkl"))
    assert word in message
    assert "\n" not in message
    assert not marker.exists()


def test_a_refused_module_is_not_imported(tmp_path: Path) -> None:
    module = "antigravity"
    assert module not in sys.modules
    with pytest.raises(DataError, match=r"names antigravity\.fly; only NumPy arrays"):
        pickle_reader.read(write(tmp_path, b"\x80\x02cantigravity\nfly\n."))
    assert module not in sys.modules


MALFORMED = {
    "no pickle": (b"hello", "no pickle of protocol 2 to 5"),
    "one byte": (b"\x80", "no pickle"),
    "protocol 0": (pickle.dumps([1], 0), "no pickle"),
    "protocol 6": (b"\x80\x06N.", "no pickle"),
    "underflow": (b"\x80\x02a.", "stack is empty"),
    "underflow of a tuple": (b"\x80\x02N\x86.", "stack is empty"),
    "nothing to memoize": (b"\x80\x04\x94.", "stack is empty"),
    "no mark": (b"\x80\x02]e.", "no mark"),
    "open mark": (b"\x80\x02N(.", "left over"),
    "two values": (b"\x80\x02NN.", "left over"),
    "trailing bytes": (b"\x80\x02N.N", "1 bytes follow"),
    "memo never written": (b"\x80\x02h\x07.", "entry 7 of the memo is read before"),
    "memo written twice": (b"\x80\x02Nq\x00q\x00.", "written twice"),
    "odd dict": (b"\x80\x02}(Nu.", "key without a value"),
    "list as key": (b"\x80\x02}(]Nu.", "dict key of type list"),
    "append to a tuple": (b"\x80\x02)Na.", "tuple where a list"),
    "list in itself": (b"\x80\x02]q\x00h\x00a.", "contains itself"),
    "list in its element": (b"\x80\x02]q\x00]h\x00aa0.", "contains itself|POP"),
    "dict in itself": (b"\x80\x02}q\x00Nh\x00s.", "contains itself"),
    "persistent": (b"\x80\x02NQ.", "opcode BINPERSID"),
    "instance": (b"\x80\x02(ios\nsystem\n.", "opcode INST"),
    "object": (b"\x80\x02(cos\nsystem\no.", "names os.system"),
    "new object": (b"\x80\x02cnumpy\nndarray\n)\x81.", "opcode NEWOBJ"),
    "extension": (b"\x80\x02\x82\x01.", "opcode EXT1"),
    "out of band": (b"\x80\x05\x97.", "opcode NEXT_BUFFER"),
    "no opcode": (b"\x80\x05\xff.", "opcode 255"),
    "call of a string": (b"\x80\x02X\x01\x00\x00\x00x)R.", "REDUCE of a str"),
    "state of a list": (b"\x80\x02])b.", "BUILD of a list"),
    "global of numbers": (b"\x80\x04K\x01K\x02\x93.", "two strings"),
    "endless line": (b"\x80\x02cos", "does not end"),
    "wrong text": (b"\x80\x02X\x01\x00\x00\x00\xff.", "can't decode"),
    "name with a newline": (b"\x80\x04\x8c\x02a\n\x8c\x01b\x93.", r"names 'a\\n.b'"),
    "huge text": (b"\x80\x02X\xff\xff\xff\xff.", "4294967295 bytes are declared, 1 are left"),
    "huge bytes": (b"\x80\x04\x8e" + b"\xff" * 8 + b".", "declared, 1 are left"),
    "huge array": (b"\x80\x05\x96" + struct.pack("<Q", 1 << 62) + b".", "declared, 1 are left"),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_files_are_refused(tmp_path: Path, name: str) -> None:
    content, words = MALFORMED[name]
    with pytest.raises(DataError, match=words):
        pickle_reader.read(write(tmp_path, content))


def array_pickle(code: str, raw: object, shape: tuple, state: tuple | None = None) -> bytes:
    """Pickle an array in parts that need not fit together."""

    class DType:
        def __reduce__(self) -> tuple:
            return np.dtype, (code, False, True), state or (3, "|", None, None, None, -1, -1, 0)

    class Array:
        def __reduce__(self) -> tuple:
            call: Any = np.zeros(1).__reduce__()
            return call[0], call[1], (1, shape, DType(), False, raw)

    return pickle.dumps(Array(), 4)


WRONG_ARRAYS: dict[str, tuple[tuple[Any, ...], str]] = {
    "too few bytes": (("f8", b"x" * 15, (2,)), "15 bytes"),
    "too many bytes": (("f8", b"x" * 17, (2,)), "17 bytes"),
    "huge shape": (("f8", b"x" * 16, (1 << 40, 1 << 40)), "16 bytes"),
    "huge empty shape": (("f8", b"", (0, 1 << 47, 1 << 47)), "big|dimension"),
    "negative axes": (("f8", b"x" * 16, (-1, -2)), "not an integer of at least 0"),
    "axis of text": (("f8", b"x" * 16, ("2",)), "not an integer"),
    "too many axes": (("u1", b"x", (1,) * 65), "dimension"),
    "objects as bytes": (("O8", b"x" * 16, (2,)), "object is given as a bytes"),
    "numbers as a list": (("f8", [1.0, 2.0], (2,)), "float64 is given as a list"),
    "objects of another number": (("O8", ["a"], (2,)), "1 elements"),
    "no character": (("U1", b"\xff\xff\xff\xff", (1,)), "invalid code point"),
    "width zero": (("U0", b"", (1 << 40,)), "elements of no bytes"),
    "fields": (
        ("f8", b"x" * 8, (1,), (3, "|", None, ("a",), {"a": 1}, 8, 8, 0)),
        "unexpected state",
    ),
    "subarray": (
        ("f8", b"x" * 8, (1,), (3, "|", ("f4", (2,)), None, None, 8, 8, 0)),
        "unexpected state",
    ),
}


@pytest.mark.parametrize("name", WRONG_ARRAYS)
def test_arrays_whose_parts_do_not_fit_are_refused(tmp_path: Path, name: str) -> None:
    parts, words = WRONG_ARRAYS[name]
    with pytest.raises(DataError, match=words):
        pickle_reader.read(write(tmp_path, array_pickle(*parts)))
    assert same(
        np.ones(2),
        pickle_reader.read(write(tmp_path, array_pickle("f8", np.ones(2).tobytes(), (2,)))),
    )


SMALL = {
    "id": np.array(["a$_$1", "bé"]),
    "x": np.arange(4.0),
    "o": np.array(["s"], object),
    1: [()],
}


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_truncation_is_refused(tmp_path: Path, protocol: int) -> None:
    content = pickle.dumps({1: np.zeros(1)}, protocol)
    for length in range(len(content)):
        with pytest.raises(DataError):
            pickle_reader.read(write(tmp_path, content[:length]))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_changed_bytes_give_data_or_an_error(tmp_path: Path, protocol: int) -> None:
    content = pickle.dumps(SMALL, protocol)
    generator = random.Random(protocol)
    refused = 0
    for _ in range(80):
        changed = bytearray(content)
        for _ in range(generator.choice([1, 1, 2, 5])):
            changed[generator.randrange(len(changed))] = generator.randrange(256)
        try:
            repr(pickle_reader.read(write(tmp_path, bytes(changed))))
        except DataError:
            refused += 1
    assert 20 < refused < 80


@pytest.mark.parametrize("nest", [b"]" * 3_000 + b"a" * 2_999, b")" + b"\x85" * 3_000])
def test_deep_nesting_is_no_recursion(tmp_path: Path, nest: bytes) -> None:
    inner = pickle_reader.read(write(tmp_path, b"\x80\x02" + nest + b"."))
    depth = 0
    while inner:
        assert isinstance(inner, (list, tuple))
        (inner,) = inner
        depth += 1
    assert depth in (2_999, 3_000)


@pytest.mark.parametrize("code", ["S", "U"])
def test_one_string_cannot_be_copied_over_and_over(tmp_path: Path, code: str) -> None:
    # a scalar's constructor, dtype and bytes go to the memo; it is then built again and again
    width = {"S": 1, "U": 4}[code]
    dtype = f"{code}{20_000 // width}".encode()
    content = (
        b"\x80\x04](cnumpy._core.multiarray\nscalar\nq\x00"
        b"cnumpy\ndtype\n\x8c" + bytes([len(dtype)]) + dtype + b"\x89\x88\x87R"
        b"(K\x03\x8c\x01<NNNK\x00K\x00K\x00tbq\x01"
        b"B"
        + struct.pack("<I", 20_000)
        + bytes(20_000)
        + b"q\x02\x86R"
        + b"h\x00h\x01h\x02\x86R" * 5000
        + b"e."
    )
    tracemalloc.start()
    with pytest.raises(DataError, match="again and again"):
        pickle_reader.read(write(tmp_path, content))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5e6


@pytest.mark.parametrize(("protocol", "megabytes"), [(2, 20), (4, 200), (5, 50)])
def test_arrays_take_no_memory_of_their_own(tmp_path: Path, protocol: int, megabytes: int) -> None:
    path = tmp_path / "large.pkl"
    with open(path, "wb") as file:
        array = np.zeros((megabytes, 1 << 17))
        array[:, ::999] = 1.25
        pickle.dump({"audio": array}, file, protocol)
    total = array.sum()
    del array
    before = anonymous_megabytes()
    content = pickle_reader.read(path)
    assert isinstance(content, dict)
    audio = content["audio"]
    assert audio.sum() == total
    assert anonymous_megabytes() - before < 8


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"missing\.pkl: No such file"):
        pickle_reader.read(tmp_path / "missing.pkl")
    with pytest.raises(DataError, match="empty file"):
        pickle_reader.read(write(tmp_path, b""))
    with pytest.raises(DataError, match="directory"):
        pickle_reader.read(tmp_path)
