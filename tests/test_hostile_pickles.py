"""Damaged and hostile files: the importer answers in one line, and does nothing else."""

import pickle
import pickletools
import struct
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from msabench.data import pickle_reader
from msabench.errors import DataError
from msabench.utterances import SPLITS
from tests.fuzz_pickle import data_set, operations, outcome, prepare

PROTOCOLS = pickle_reader.PROTOCOLS
VALID = {
    (protocol, seed): pickle.dumps(data_set(Random(seed)), protocol)
    for protocol in PROTOCOLS
    for seed in (0, 5, 13)
}
FILES = st.sampled_from(list(VALID.values()))
KEPT = sorted((Path(__file__).parent / "hostile").glob("*.pkl"))


def examples(number: int) -> settings:
    shared_folder = HealthCheck.function_scoped_fixture
    return settings(max_examples=number, deadline=None, suppress_health_check=[shared_folder])


class Reader:
    """A process that reads files: one that crashes it, or hangs, does not end the tests."""

    pool: ProcessPoolExecutor | None = None

    def read(self, path: Path) -> tuple[str, str]:
        self.pool = self.pool or ProcessPoolExecutor(1, get_context("spawn"))
        try:
            return self.pool.submit(read_here, path).result()
        except BrokenProcessPool:
            self.close()
            return "crash", "or a hang"

    def close(self) -> None:
        if self.pool is not None:
            self.pool.shutdown()
        self.pool = None


def read_here(path: Path) -> tuple[str, str]:
    return outcome(path, {}, watch_here())


watch_here = cache(prepare)
READER = Reader()
LINUX = Path("/proc/self/statm").exists()
pytestmark = [
    pytest.mark.skipif(not LINUX, reason="memory is limited by Linux's /proc"),
    pytest.mark.slow,  # thousands of files; test_pickle_reader.py is in the first tier
]


@pytest.fixture(autouse=True, scope="module")
def _close() -> Iterator[None]:
    yield
    READER.close()


def read(folder: Path, file: bytes) -> str | None:
    """Read a file and return the message that refuses it, if any; see that all else is well."""
    path = folder / "data.pkl"
    path.unlink(missing_ok=True)  # the former file may still be mapped
    path.write_bytes(file)
    kind, detail = READER.read(path)
    assert kind in ("data", "DataError"), f"{kind}: {detail}"
    return detail if kind == "DataError" else None


def refused(folder: Path, file: bytes) -> str:
    message = read(folder, file)
    assert message is not None, "the file was read"
    return message


@pytest.mark.parametrize("name", VALID)
def test_the_files_that_are_damaged_here_are_valid(tmp_path: Path, name: tuple[int, int]) -> None:
    assert read(tmp_path, VALID[name]) is None


# Damage


@pytest.mark.parametrize("name", VALID)
def test_truncation_at_every_kind_of_operation(tmp_path: Path, name: tuple[int, int]) -> None:
    parts: dict[int, tuple[int, int]] = {}
    start = 0
    for part in operations(VALID[name]):
        parts.setdefault(part[0], (start, start + len(part)))
        start += len(part)
    for start, end in parts.values():
        for cut in {start, start + 1, (start + end) // 2, end - 1, end} - {0, len(VALID[name])}:
            message = refused(tmp_path, VALID[name][:cut])
            assert "truncated" in message or (cut == 1 and "no pickle" in message)


WIDTHS = {
    pickletools.TAKEN_FROM_ARGUMENT1: 1,
    pickletools.TAKEN_FROM_ARGUMENT4: 4,
    pickletools.TAKEN_FROM_ARGUMENT4U: 4,
    pickletools.TAKEN_FROM_ARGUMENT8U: 8,
}
SIZED = {
    opcode.name: (opcode.code.encode("latin-1"), WIDTHS[opcode.arg.n])
    for opcode in pickletools.opcodes
    if opcode.arg is not None and opcode.arg.n in WIDTHS
}


@pytest.mark.parametrize("name", SIZED)
def test_lengths_beyond_the_end_of_the_file(tmp_path: Path, name: str) -> None:
    code, width = SIZED[name]
    sizes = {1 << 7, (1 << 8 * width - 1) - 1, (1 << 8 * width) - 1}
    if width > 1:
        sizes |= {1 << 8 * width - 1, 1 << 20, (1 << 31) - 1}
    for size in sizes:
        bare = b"\x80\x04" + code + size.to_bytes(width, "little") + b"text."
        assert f"opcode {name}" in (actual := refused(tmp_path, bare)) or f"{size} bytes" in actual
    for file in VALID.values():
        parts = operations(file)
        for i in [i for i, part in enumerate(parts) if part[:1] == code][:1]:
            huge = [*parts[:i], code + b"\xff" * width + parts[i][1 + width :], *parts[i + 1 :]]
            assert width == 1 or "are declared" in refused(tmp_path, b"".join(huge))


KINDS = ("flip", "replace", "insert", "delete", "swap", "repeat")
PLACES = st.floats(0, 1, exclude_max=True)
EDITS = st.lists(
    st.tuples(st.sampled_from(KINDS), PLACES, PLACES),
    min_size=1,
    max_size=3,
)


def edit(items: list, edits: list[tuple[str, float, float]], values: list) -> list:
    """Flip, replace, insert, delete, swap or repeat items, which are bytes or operations."""
    for kind, x, y in edits:
        i, j = int(x * len(items)), int(y * len(items))
        value = values[int(y * len(values))]
        match kind:
            case "flip":
                first = items[i] if isinstance(items[i], int) else items[i][0]
                flipped = first ^ 1 << int(y * 8)
                items[i] = flipped if isinstance(items[i], int) else bytes([flipped]) + items[i][1:]
            case "replace":
                items[i] = value
            case "insert":
                items.insert(i, value)
            case "delete" if len(items) > 1:
                del items[i]
            case "swap":
                items[i], items[j] = items[j], items[i]
            case "repeat":
                items[i:i] = items[i : i + int(y * 20)]
    return items


OPERATIONS = [
    *(opcode.code.encode("latin-1") for opcode in pickletools.opcodes),
    *(b"h" + bytes([place]) for place in range(40)),
    *(b"]q\x00h\x00a", b"K\x00\x85", b"\x8a\xff" + b"\xff" * 255, b"cnumpy\ndtype\n"),
]


@examples(400)
@given(file=FILES, edits=EDITS)
def test_damaged_operations_give_data_or_one_line(
    tmp_path: Path, file: bytes, edits: list[tuple[str, float, float]]
) -> None:
    read(tmp_path, b"".join(edit(operations(file), edits, OPERATIONS)))


@examples(400)
@given(file=FILES, edits=EDITS)
def test_damaged_bytes_give_data_or_one_line(
    tmp_path: Path, file: bytes, edits: list[tuple[str, float, float]]
) -> None:
    read(tmp_path, bytes(edit(list(file), edits, list(range(256)))))


@pytest.mark.parametrize("path", KEPT, ids=lambda path: path.stem)
def test_files_that_once_went_wrong(tmp_path: Path, path: Path) -> None:
    read(tmp_path, path.read_bytes())


# Code: what a file names, how it may call it, and where


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


NAMES = """
    posix.system os.system nt.system os.popen os.execl posix.posix_spawn os.remove pty.spawn
    builtins.eval builtins.exec builtins.getattr builtins.__import__ builtins.open builtins.compile
    builtins.setattr builtins.globals builtins.type builtins.bytearray __builtin__.eval
    __builtin__.file subprocess.Popen subprocess.check_output importlib.import_module
    runpy.run_path code.interact shutil.rmtree pathlib.PosixPath socket.create_connection
    ctypes.CDLL operator.attrgetter operator.methodcaller functools.partial types.FunctionType
    types.CodeType codecs.decode codecs.open _codecs.decode copyreg._reconstructor io.open
    pickle.loads marshal.loads tempfile.mkdtemp sys.modules antigravity.fly torch.load
    torch._utils._rebuild_tensor_v2 joblib.load dill.loads
    numpy.load numpy.fromfile numpy.memmap numpy.loadtxt numpy.genfromtxt numpy.frombuffer
    numpy.save numpy.array numpy.empty numpy.ones numpy.ctypeslib.load_library
    numpy.core.multiarray.fromfile numpy._core.multiarray.fromstring numpy.core.multiarray.arange
    numpy._core.multiarray._vec_string numpy.core.multiarray.set_string_function
    numpy.core.records.fromfile numpy.testing._private.utils.runstring numpy.f2py.run_main
    numpy.distutils.exec_command.exec_command numpy.random._pickle.__randomstate_ctor
    numpy.ndarray.tofile numpy.core.multiarray numpy._core.multiarray._reconstruct.__call__
    Numpy.ndarray numpy.Ndarray numpy..ndarray .numpy.ndarray numpy.dtype.__class__
"""
DANGEROUS = NAMES.split()

CALLS = {
    "GLOBAL": b"c<module>\n<name>\n",
    "REDUCE": b"c<module>\n<name>\n<text>\x85R",
    "STACK_GLOBAL": b"<module text><name text>\x93<text>\x85R",
    "INST": b"(<text>i<module>\n<name>\n",
    "OBJ": b"(c<module>\n<name>\n<text>o",
    "NEWOBJ": b"c<module>\n<name>\n<text>\x85\x81",
    "NEWOBJ_EX": b"c<module>\n<name>\n<text>\x85}\x92",
    "BUILD": b"c<module>\n<name>\n)R}<text>Nsb",
    "BUILD of a list": b"]c<module>\n<name>\nb",
    "PERSID": b"P<module>.<name>\n",
    "BINPERSID": b"<text>Q",
    "EXT1": b"\x82\x01<text>\x85R",
    "EXT4": b"\x84\x01\x00\x00\x00<text>\x85R",
    "GET": b"g0\n<text>\x85R",
    "NEXT_BUFFER": b"\x97<text>\x85R",
}


def call(full: str, way: str, marker: Path) -> bytes:
    module, _, name = full.rpartition(".")
    parts = {
        b"<module>": module.encode(),
        b"<name>": name.encode(),
        b"<module text>": text(module),
        b"<name text>": text(name),
        b"<text>": text(f"touch {marker}"),
    }
    fragment = CALLS[way]
    for part, value in parts.items():
        fragment = fragment.replace(part, value)
    return fragment


HERE = "<here>"


class State:
    """Pickles as a dtype with a text in its state."""

    def __reduce__(self) -> tuple:
        return np.dtype, ("f8", False, True), (3, "<", HERE, None, None, -1, -1, 0)


def with_here(place: str) -> object:
    """Return a data set with a text where something else is to stand."""
    content = data_set(Random(0))
    split = content["train"]
    match place:
        case "file":
            return HERE
        case "split":
            content["train"] = HERE
        case "value":
            split["id"] = HERE
        case "element of a list":
            split["raw_text"] = ["a", HERE, "c"]
        case "element of an array":
            split["raw_text"] = np.array(["a", HERE, "c"], object)
        case "key":
            split[HERE] = 1
        case "state of a dtype":
            split["audio"] = State()
    return content


LOCATIONS = [
    *("file", "split", "value", "element of a list", "element of an array", "key"),
    "state of a dtype",
]
TEMPLATES = {
    (place, protocol): operations(pickle.dumps(with_here(place), protocol))
    for place in LOCATIONS
    for protocol in PROTOCOLS
}


def put(fragment: bytes, place: str, protocol: int) -> bytes:
    """Return a data set with a piece of pickle in some place."""
    parts = TEMPLATES[place, protocol]
    assert sum(HERE.encode() in part for part in parts) == 1
    return b"".join(fragment if HERE.encode() in part else part for part in parts)


@pytest.mark.parametrize("way", CALLS)
def test_nothing_is_named_or_called(tmp_path: Path, way: str) -> None:
    marker = tmp_path / "marker"
    for i, full in enumerate(DANGEROUS):
        place, protocol = LOCATIONS[i % len(LOCATIONS)], PROTOCOLS[i % len(PROTOCOLS)]
        message = refused(tmp_path, put(call(full, way, marker), place, protocol))
        assert f"refused: the pickle names {full};" in message or f"opcode {way};" in message
        assert not marker.exists()


@examples(200)
@given(
    full=st.sampled_from(DANGEROUS),
    way=st.sampled_from(list(CALLS)),
    place=st.sampled_from(LOCATIONS),
    protocol=st.sampled_from(PROTOCOLS),
)
def test_nothing_is_named_or_called_anywhere(
    tmp_path: Path, full: str, way: str, place: str, protocol: int
) -> None:
    marker = tmp_path / "marker"
    assert "refused: " in refused(tmp_path, put(call(full, way, marker), place, protocol))
    assert not marker.exists()


@examples(100)
@given(module=st.text(max_size=200), name=st.text(max_size=200))
@example(module="\U0001f600" * 5000, name="x")
@example(module="numpy", name="ndarray\n")
@example(module="ｎumpy", name="ndarray")  # noqa: RUF001 (a letter that only looks the same)
def test_any_other_name_is_refused(tmp_path: Path, module: str, name: str) -> None:
    file = b"\x80\x04" + text(module) + text(name) + b"\x93)R."
    assert "refused: the pickle names " in refused(tmp_path, file)


argument = st.recursive(
    st.sampled_from(
        [
            *(
                0,
                1,
                3,
                -1,
                2**70,
                True,
                False,
                None,
                "f8",
                "O8",
                "U3",
                "latin1",
                "<",
                "C",
                "K",
                b"b",
            ),
            *(b"", b"x" * 24, "\u20ac", (0,), (3,), (1,) * 65, np.arange(3.0), np.dtype("f8")),
            *(np.dtype("O"), np.array(["a", [1]], object), np.array(3), [1, 2, 3], {}),
        ]
    ),
    lambda inner: st.lists(inner, max_size=5).map(tuple),
    max_leaves=8,
)


@examples(400)
@given(
    full=st.sampled_from(sorted(pickle_reader._CONSTRUCTORS)),
    arguments=argument,
    state=argument,
)
def test_constructors_with_any_arguments(
    tmp_path: Path, full: str, arguments: object, state: object
) -> None:
    name = call(full, "GLOBAL", tmp_path)
    parts = [operations(pickle.dumps(value, 2))[1:-1] for value in (arguments, state)]
    body = [b"".join(part for part in parts if part[:1] not in b"qrhj") for parts in parts]
    refused(tmp_path, b"\x80\x04" + name + body[0] + b"R.")
    refused(tmp_path, b"\x80\x04" + name + body[0] + b"R" + body[1] + b"b.")


# Structures


def recursive_list() -> list:
    value: list = []
    value.append(value)
    return value


def recursive_dict() -> dict:
    value: dict = {}
    value["a"] = [value]
    return value


def recursive_tuple() -> tuple:
    value: tuple = ([],)
    value[0].append(value)
    return value


def recursive_array() -> np.ndarray:
    value = np.array([None, None], object)
    value[0] = [value]
    return value


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("make", [recursive_list, recursive_dict, recursive_tuple, recursive_array])
def test_what_contains_itself(tmp_path: Path, make: Callable[[], Any], protocol: int) -> None:
    for key in ("id", "audio", "regression_labels", "annotations"):
        content = data_set(Random(0))
        content["test"][key] = make()
        message = refused(tmp_path, pickle.dumps(content, protocol))
        assert any(words in message for words in ("contains itself", "opcode", "is complete"))


DEEP = 100_000
NESTED = {
    "lists": b"]" * DEEP + b"a" * (DEEP - 1),
    "tuples": b")" + b"\x85" * DEEP,
    "dicts": b"}" + b"K\x00}" * DEEP + b"s" * DEEP,
    "marks": b"(" * DEEP + b"t" * DEEP,
    "tuples in lists": b"]" * DEEP + b"\x85a" * (DEEP - 1),
}


@pytest.mark.parametrize("place", ["value", "element of an array"])
@pytest.mark.parametrize("name", NESTED)
def test_deep_nesting(tmp_path: Path, name: str, place: str) -> None:
    refused(tmp_path, put(NESTED[name], place, 4))


def dtype(code: str) -> bytes:
    state = b"(K\x03" + text("<") + b"NNNK\x00K\x00K\x00t"
    return b"cnumpy\ndtype\n" + text(code) + b"\x89\x88\x87R" + state + b"b"


RECONSTRUCT = b"cnumpy._core.multiarray\n_reconstruct\n"
ARGUMENTS = b"cnumpy\nndarray\nK\x00\x85C\x01b\x87"


def array(code: str, shape: bytes, raw: bytes) -> bytes:
    return RECONSTRUCT + ARGUMENTS + b"R(K\x01" + shape + dtype(code) + b"\x89" + raw + b"tb"


def test_deep_nesting_of_arrays(tmp_path: Path) -> None:
    # NumPy frees an array in an array by recursion, which overflows the stack of the process
    before, after = array("O8", b"K\x01\x85", b"]HEREa").split(b"HERE")
    nested = before * 20_000 + b"N" + after * 20_000
    assert "an array of objects in another" in refused(tmp_path, put(nested, "value", 4))


def laugh(kind: str) -> object:
    """Return what has 2 ** 60 leaves, all of them one."""
    value: Any = "ha"
    for _ in range(60):
        pair = np.empty(2, object)
        pair[:] = [[value], [value]]
        value = {"list": [value] * 2, "tuple": (value,) * 2, "dict": {1: value, 2: value}}.get(
            kind, pair
        )
    return value


@pytest.mark.parametrize("kind", ["list", "tuple", "dict", "array"])
def test_what_is_shared_is_not_copied(tmp_path: Path, kind: str) -> None:
    for key in ("id", "raw_text", "regression_labels", "audio", "text_bert", "audio_lengths"):
        content = data_set(Random(0))
        content["valid"][key] = laugh(kind)
        assert f"valid: {key}: " in refused(tmp_path, pickle.dumps(content, 4))
    refused(tmp_path, pickle.dumps(laugh(kind), 4))
    refused(tmp_path, pickle.dumps(dict.fromkeys(SPLITS, laugh(kind)), 4))


STATES = {
    "shape": b"(K\x01(" + b"K\x01" * 64 + b"t" + dtype("u1") + b"\x89C\x01xt",
    "elements": b"(K\x01M\x10\x27\x85" + dtype("O8") + b"\x89](" + b"N" * 10_000 + b"et",
    "bytes": b"(K\x01M\xe8\x03\x85" + dtype("u1") + b"\x89B\xe8\x03\x00\x00" + bytes(1000) + b"t",
}


@pytest.mark.parametrize("name", STATES)
def test_nothing_is_gone_through_over_and_over(tmp_path: Path, name: str) -> None:
    once = RECONSTRUCT + b"q\x00" + ARGUMENTS + b"q\x01" + STATES[name] + b"q\x02"
    file = b"\x80\x04(" + once + b"h\x00h\x01Rh\x02b" * 50_000 + b"t."
    assert "the same bytes are used again and again" in refused(tmp_path, file)


MODULUS = (1 << 61) - 1  # of Python's hash of an integer


def integer(value: int) -> bytes:
    size = value.bit_length() // 8 + 1
    return b"\x8a" + bytes([size]) + value.to_bytes(size, "little", signed=True)


def scalar(code: str, raw: bytes) -> bytes:
    return (
        b"cnumpy._core.multiarray\nscalar\n"
        + dtype(code)
        + b"C"
        + bytes([len(raw)])
        + raw
        + b"\x86R"
    )


KEYS = {
    "colliding": ([integer(k * MODULUS) for k in range(1, 60_000)], "keys wider than 64 bits"),
    "colliding, complex": ([scalar("c8", bytes(8))], "a dict key of type complex64"),
    # compared with the float of equal hash, the integer overflows
    "overflowing": (
        [scalar("f8", struct.pack("<d", 4)), integer(4 + (MODULUS << 1900))],
        "float64",
    ),
    "equal": ([text("train"), text("train")], "the key 'train' twice"),
    "equal numbers": ([b"K\x01", b"\x88"], "the key True twice"),
    "equal, long": ([text("\U0001f600" * 999)] * 2, "twice"),
    "NaN": ([b"G\x7f\xf8" + bytes(6)] * 1000, "no dict of train"),
    "huge": ([integer(-(1 << 2000))], "no dict of train"),
    "nested": ([b")" + b"\x85" * DEEP], "a dict key of type tuple"),
}


@pytest.mark.parametrize("name", KEYS)
def test_dict_keys(tmp_path: Path, name: str) -> None:
    keys, words = KEYS[name]
    file = b"\x80\x04}(" + b"N".join([*keys, b""]) + b"u."
    assert words in refused(tmp_path, file)


def elements_of(form: str, elements: list[bytes]) -> bytes:
    """A pickle of a set in one of the forms in which pickle writes it."""
    listed = b"](" + b"".join(elements) + b"e\x85R"
    return (
        b"\x80\x04"
        + {
            "EMPTY_SET": b"\x8f(" + b"".join(elements) + b"\x90",
            "FROZENSET": b"(" + b"".join(elements) + b"\x91",
            "set": b"cbuiltins\nset\n" + listed,
            "frozenset of Python 2": b"c__builtin__\nfrozenset\n" + listed,
        }[form]
        + b"."
    )


FORMS = ["EMPTY_SET", "FROZENSET", "set", "frozenset of Python 2"]
ELEMENTS = {
    "colliding": (KEYS["colliding"][0], "elements wider than 64 bits"),
    "colliding, complex": ([scalar("c8", bytes(8))], "element of type complex64"),
    "overflowing": (KEYS["overflowing"][0], "element of type float64"),
    "equal": ([text("train"), text("train")], "the element 'train' twice"),
    "NaN": ([b"G\x7f\xf8" + bytes(6)] * 1000, "set; expected a dict"),
    "nested": ([b")" + b"\x85" * DEEP], "element of type tuple"),
    "a set": ([b"(\x91"], "element of type frozenset"),
    "a list": ([b"]"], "element of type list"),
    "an array": ([array("u1", b"K\x01\x85", b"C\x01a")], "element of type ndarray"),
    "a long byte string": ([b"B" + struct.pack("<I", 2000) + bytes(2000)], "of type memoryview"),
    "a name": ([b"cnumpy\nndarray\n"], "refused: "),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ELEMENTS)
def test_elements_of_sets(tmp_path: Path, name: str, form: str) -> None:
    elements, words = ELEMENTS[name]
    assert words in refused(tmp_path, elements_of(form, elements))


def test_wide_elements_of_many_sets_are_counted_together(tmp_path: Path) -> None:
    one = b"\x8f(" + b"".join(integer(k * MODULUS) for k in range(8, 508)) + b"\x90"
    assert "elements wider than 64 bits" in refused(tmp_path, b"\x80\x04(" + one * 3 + b"t.")


@pytest.mark.parametrize(
    ("operations", "words"),
    {
        "called with two lists": (b"cbuiltins\nset\n]]\x86R", "set is called with unexpected"),
        "called with a text": (b"cbuiltins\nset\n\x8c\x01a\x85R", "set is called with unexpected"),
        "called with nothing": (b"cbuiltins\nset\n)R", "set is called with unexpected arguments"),
        "named": (b"cbuiltins\nset\n", "the pickle holds builtins.set itself as a value"),
        "grows once referred to": (b"\x8fq\x00h\x00(K\x01\x90", "a set grows after it was"),
        "grows a dict": (b"}(K\x01\x90", "a dict where a set is needed"),
        "grows a frozenset": (b"(\x91(K\x01\x90", "a frozenset where a set is needed"),
        "without a mark": (b"K\x01\x91", "no mark is open"),
    }.values(),
)
def test_sets_that_are_none(tmp_path: Path, operations: bytes, words: str) -> None:
    assert words in refused(tmp_path, b"\x80\x04" + operations + b".")


def test_one_list_is_not_made_a_set_over_and_over(tmp_path: Path) -> None:
    listed = b"](" + b"".join(b"M" + struct.pack("<H", i) for i in range(9999)) + b"eq\x00"
    sets = b"cbuiltins\nset\nh\x00\x85R" * 999
    message = refused(tmp_path, b"\x80\x04" + listed + b"(" + sets + b"t.")
    assert "the same bytes are used again and again" in message


# Arrays and numbers


AXIS = b"\x8a\x06" + b"\xff" * 5 + b"\x7f"
ARRAYS = {
    "many axes": (array("f8", b"(" + AXIS * 100_000 + b"t", b"C\x00"), "100000 dimensions"),
    "a huge axis": (array("f8", AXIS + b"\x85", b"C\x00"), "0 bytes: not what its shape needs"),
    "a huge axis, empty": (array("f8", b"K\x00" + AXIS + b"K\x01\x87", b"C\x00"), "too big"),
    "a huge axis, no objects": (array("O8", b"K\x00" + AXIS + b"\x86", b"]"), "too big"),
    "a huge itemsize": (array("U99999999", b"K\x01\x85", b"C\x04abcd"), "given 4 bytes"),
    "an itemsize that is too large": (array("U999999999", b")", b"C\x00"), "dtype 'U999999999'"),
    "a dtype of a long name": (dtype("\U0001f600" * 999), "refused: dtype "),
    # == of an array goes through all it holds: it must not be asked whether it is the number 1
    "an array for a number": (
        RECONSTRUCT
        + ARGUMENTS
        + b"R("
        + array("u1", b"K\x02\x85", b"C\x02ab")
        + b")"
        + dtype("u1")
        + b"\x89C\x01atb",
        "an unexpected state",
    ),
    "void": (dtype("V8"), "refused: dtype 'V8'"),
    "dates": (dtype("M8"), "refused: dtype 'M8'"),
    "a long name of a module": (b"c" + b"x" * 100_000 + b"\nload\n", "does not end within"),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_arrays_that_only_claim_to_be(tmp_path: Path, name: str) -> None:
    fragment, words = ARRAYS[name]
    for place in ("value", "element of a list"):
        assert words in refused(tmp_path, put(fragment, place, 4))


WRONG: dict[str, object] = {
    "objects": np.array([[["a", None]]] * 3, object),
    "booleans": np.ones((3, 2, 2), bool),
    "complex": np.ones((3, 2, 2), "c16"),
    "bytes": np.full((3, 2, 2), b"1"),
    "text": np.full((3, 2, 2), "1" * 5000),
    "records": np.zeros((3, 2, 2), [("a", "f4")]),
    "dates": np.zeros((3, 2, 2), "M8[D]"),
    "durations": np.zeros((3, 2, 2), "m8[s]"),
    "void": np.zeros((3, 2, 2), "V3"),
    "no axis": np.array(1.0),
    "six axes": np.ones((3, 1, 1, 1, 1, 1)),
    "no steps": np.zeros((3, 0, 2)),
    "many numbers": np.ones((5000, 1, 1)),
    "numbers": [1, 2],
    "huge numbers": [10**600, -(10**600), 1],
    "a huge number": 1 << 70_000,
    "text only": "abc",
    "bytes only": b"abc" * 1000,
    "keys": {str(i) * 99: i for i in range(99)},
}


@pytest.mark.parametrize("key", ["audio", "text_bert", "regression_labels", "raw_text", "id"])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_values_of_the_wrong_kind(tmp_path: Path, key: str, protocol: int) -> None:
    for value in WRONG.values():
        content = data_set(Random(0))
        content["test"][key] = value
        message = refused(tmp_path, pickle.dumps(content, protocol))
        assert f"test: {key}: " in message or "refused: " in message


def test_too_many_operations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pickle_reader, "OPERATIONS", 100)
    path = tmp_path / "data.pkl"
    path.write_bytes(VALID[4, 0])
    with pytest.raises(DataError, match="more than 100 operations"):
        pickle_reader.read(path)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_long_text_after_an_array(tmp_path: Path, protocol: int) -> None:
    path = tmp_path / "data.pkl"
    path.write_bytes(pickle.dumps((np.arange(3.0), "x" * 2000), protocol))
    match pickle_reader.read(path):
        case (np.ndarray() as numbers, str(letters)):
            assert numbers.tolist() == [0, 1, 2]
            assert letters == "x" * 2000
        case other:
            raise AssertionError(other)
