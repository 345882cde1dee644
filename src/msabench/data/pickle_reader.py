"""Read pickled arrays and plain data without running the pickle.

A pickle is a program, and unpickling runs it. This is an interpreter for the subset that plain data
needs: None, bool, int, float, str, bytes, list, tuple, dict, sets of strings and numbers, and
NumPy's arrays, scalars and dtypes as Python 3 writes them in protocols 2 to 5. The constructors of
sets and of NumPy are recognized by name; any other name or call is refused. Nothing is imported or
called by name, nothing is recursive, and arrays are views of the file. Time and memory are linear
in the size of the file, and the number of its operations, each of which may create an object, is
limited.
"""

import codecs
import math
import mmap
import re
import struct
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from pickletools import opcodes
from typing import IO, Any

import numpy as np

from msabench.errors import DataError

PROTOCOLS = (2, 3, 4, 5)
LONG = 1024  # bytes; a longer byte string is a view of the file, not a copy
CHUNK = 1 << 18  # bytes decoded at once
OPERATIONS = 10_000_000  # one of 1 byte can allocate 100; 100,000 texts need far fewer
NAME = 1000  # bytes, at most, of the name of a module or function
WIDE_KEYS = 1000  # keys beyond 64 bits: their hashes can be made to collide (quadratic time)
AXES = 64  # NumPy's own limit; the product of more takes quadratic time
EMPTY = 1 << 24  # the most elements in the other axes of an empty array

_ADMITTED = "only NumPy arrays, plain containers, strings and numbers are admitted"
_DTYPE = re.compile(r"b1|[iu][1248]|f[248]|c8|c16|O8?|[US][0-9]{1,8}")
_NAMES = {opcode.code: opcode.name for opcode in opcodes}
_KEYS = (str, bytes, int, float, np.integer, type(None))  # hashing a nested tuple is recursive
_SETS = {
    f"{module}.{kind.__name__}": kind
    for module in ("builtins", "__builtin__")
    for kind in (set, frozenset)
}
_I4, _U1, _U2, _U4, _U8, _F8 = map(struct.Struct, ("<i", "<B", "<H", "<I", "<Q", ">d"))


def read(path: Path) -> object:
    """Return the content of a pickle; arrays are read-only views of the mapped file.

    Byte strings longer than LONG become read-only memoryviews, bytearrays byte strings. The file
    must not change while the result is in use: reading beyond the new end of a mapped file kills
    the process (SIGBUS). Raises DataError naming the byte where a file is truncated, malformed or
    recursive, or contains anything but data.
    """
    try:
        with open(path, "rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: {getattr(error, 'strerror', None) or error}") from None
    with tempfile.TemporaryFile(buffering=0, dir=path.parent) as scratch:
        machine = _Machine(mapped, scratch)
        try:
            return machine.run()
        except ValueError as error:  # our own DataError, wrong UTF-8, impossible shapes
            problem = str(error)
        except IndexError:
            problem = "the stack is empty where a value is needed"
        raise DataError(f"{path}: byte {machine.start}: {problem}")


@dataclass(frozen=True)
class _Global:
    """One of the names in _CONSTRUCTORS."""

    name: str


class _Arguments(tuple):
    """A tuple that contains a _Global: arguments of a call, never data."""


@dataclass
class _Unbuilt:
    """An array or dtype before BUILD gives its state, and its keys in the memo."""

    finish: Callable[[Any], object]
    keys: list[int] = field(default_factory=list)


class _Machine:
    """The stack, the memo and the operations on them."""

    def __init__(self, mapped: mmap.mmap, scratch: IO[bytes]) -> None:
        self.mapped = mapped
        self.view = memoryview(mapped)
        self.scratch = scratch
        self.start = self.position = 0
        self.stack: list[Any] = []
        self.outer: list[list[Any]] = []  # the stacks below each open mark
        self.memo: dict[int, Any] = {}
        self.referenced: set[int] = set()  # containers fetched from the memo, by identity
        self.consumed = self.wide_keys = 0
        self.decoded: memoryview | None = None

    def run(self) -> object:
        """Run the operations up to STOP and return the value on the stack."""
        if self.view[0] != 0x80 or len(self.view) < 2 or self.view[1] not in PROTOCOLS:
            raise DataError(f"no pickle of protocol {PROTOCOLS[0]} to {PROTOCOLS[-1]}")
        self.position = 2
        for _ in range(OPERATIONS):
            self.start = self.position
            code = self.number(_U1)
            if code == ord("."):
                break
            if code not in _OPERATIONS:
                name = _NAMES.get(chr(code), code)
                raise DataError(f"refused: opcode {name}; {_ADMITTED}")
            operation, *arguments = _OPERATIONS[code]
            operation(self, *arguments)
        else:
            raise DataError(f"refused: more than {OPERATIONS} operations")
        if len(self.stack) != 1 or self.outer:
            raise DataError("the pickle ends with values left over")
        if self.position != len(self.view):
            raise DataError(f"{len(self.view) - self.position} bytes follow the end of the pickle")
        return _plain(self.stack[0])

    # Reading the file

    def take(self, size: int) -> memoryview:
        left = len(self.view) - self.position
        if size > left:
            raise DataError(f"truncated: {size} bytes are declared, {left} are left in the file")
        self.position += size
        return self.view[self.position - size : self.position]

    def number(self, form: struct.Struct) -> Any:
        return form.unpack(self.take(form.size))[0]

    def line(self) -> str:
        end = self.mapped.find(b"\n", self.position, self.position + NAME)
        if end < 0:
            raise DataError(f"truncated: a line does not end within {NAME} bytes")
        return str(self.take(end + 1 - self.position)[:-1], "utf-8")

    # Plain values

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def push_number(self, form: struct.Struct) -> None:
        self.push(self.number(form))

    def push_long(self) -> None:
        self.push(int.from_bytes(self.take(self.number(_U1)), "little", signed=True))

    def push_bytes(self, form: struct.Struct) -> None:
        raw = self.take(self.number(form))
        self.push(raw if len(raw) > LONG else bytes(raw))

    def push_text(self, form: struct.Struct) -> None:
        raw = self.take(self.number(form))
        function = self.stack[-1] if self.stack else None
        if len(raw) > LONG and isinstance(function, _Global) and function.name == "_codecs.encode":
            self.push(self.decode(raw))  # the bytes of a whole array, written as text
        else:
            self.push(str(raw, "utf-8", "surrogatepass"))

    def decode(self, raw: memoryview) -> memoryview:
        """Decode bytes that protocol 2 wrote as text, in chunks, into a temporary file."""
        if self.decoded is None:
            self.scratch.truncate(len(self.view))  # text is never shorter than its bytes
            access = mmap.ACCESS_READ
            self.decoded = memoryview(mmap.mmap(self.scratch.fileno(), 0, access=access))
        begin = self.scratch.tell()
        decoder = codecs.getincrementaldecoder("utf-8")()
        for i in range(0, len(raw), CHUNK):
            chunk = decoder.decode(bytes(raw[i : i + CHUNK]), final=i + CHUNK >= len(raw))
            self.scratch.write(chunk.encode("latin-1"))
        return self.decoded[begin : self.scratch.tell()]

    # Containers

    def push_new(self, kind: type) -> None:
        self.push(kind())

    def mark(self) -> None:
        self.outer.append(self.stack)
        self.stack = []

    def pop(self, size: int | None) -> list[Any]:
        """Pop the last values of the stack; without a size, all above the last mark."""
        if size is not None:
            return [self.stack.pop() for _ in range(size)][::-1]
        if not self.outer:
            raise DataError("no mark is open where one is needed")
        items, self.stack = self.stack, self.outer.pop()
        return items

    def make_tuple(self, size: int | None) -> None:
        items = self.pop(size)
        if any(isinstance(item, _Global) for item in items):
            self.push(_Arguments(items))
        else:
            self.push(tuple(map(_plain, items)))

    def growing(self, kind: type) -> Any:
        """Return the container on top. A recursive one would grow after a read from the memo."""
        container = self.stack[-1]
        if type(container) is not kind:
            raise DataError(f"a {type(container).__name__} where a {kind.__name__} is needed")
        if id(container) in self.referenced:
            raise DataError(f"a {kind.__name__} grows after it was referred to, or contains itself")
        return container

    def extend(self, size: int | None) -> None:
        items = self.pop(size)
        self.growing(list).extend(map(_plain, items))

    def set_items(self, size: int | None) -> None:
        items = self.pop(size)
        target = self.growing(dict)
        if len(items) % 2:
            raise DataError("a dict is given a key without a value")
        for key, value in zip(items[::2], items[1::2], strict=True):
            self.check_new(key, "key", target)
            target[key] = _plain(value)

    def add_elements(self) -> None:
        items = self.pop(None)
        self.add(items, self.growing(set))

    def push_frozenset(self) -> None:
        self.push(frozenset(self.add(self.pop(None), set())))

    def add(self, items: list[Any], target: set[Any]) -> set[Any]:
        for item in items:
            self.check_new(item, "element", target)
            target.add(item)
        return target

    def check_new(self, value: Any, role: str, target: dict[Any, Any] | set[Any]) -> None:
        """Refuse a key or element that occurs twice, or that is costly to hash."""
        kind = type(target).__name__
        if not isinstance(value, _KEYS) or isinstance(value, np.inexact):  # see WIDE_KEYS
            raise DataError(f"refused: a {kind} {role} of type {type(value).__name__}")
        self.wide_keys += isinstance(value, int) and value.bit_length() > 64
        if self.wide_keys > WIDE_KEYS:
            raise DataError(f"refused: more than {WIDE_KEYS} {kind} {role}s wider than 64 bits")
        if value in target:
            raise DataError(f"a {kind} is given the {role} {_shown(value)} twice")

    # The memo

    def put(self, form: struct.Struct | None) -> None:
        key = len(self.memo) if form is None else self.number(form)
        if key in self.memo:
            raise DataError(f"entry {key} of the memo is written twice")
        value = self.memo[key] = self.stack[-1]
        if isinstance(value, _Unbuilt):
            value.keys.append(key)

    def get(self, form: struct.Struct) -> None:
        key = self.number(form)
        if key not in self.memo:
            raise DataError(f"entry {key} of the memo is read before it is written")
        value = self.memo[key]
        if isinstance(value, _Unbuilt):
            raise DataError("an array or dtype is referred to before it is complete")
        if isinstance(value, (list, dict, set)):
            self.referenced.add(id(value))
        self.push(value)

    # Names and calls

    def push_global(self) -> None:
        self.name(self.line(), self.line())

    def push_stacked_global(self) -> None:
        module, name = self.pop(2)
        if not isinstance(module, str) or not isinstance(name, str):
            raise DataError("the name of a global is not two strings")
        self.name(module, name)

    def name(self, module: str, name: str) -> None:
        full = f"{module}.{name}"
        if full not in _CONSTRUCTORS:
            shown = full if re.fullmatch(r"[A-Za-z0-9_.]{1,100}", full) else _shown(full)
            raise DataError(f"refused: the pickle names {shown}; {_ADMITTED}")
        self.push(_Global(full))

    def reduce(self) -> None:
        function, arguments = self.pop(2)
        if not isinstance(function, _Global) or not isinstance(arguments, tuple):
            raise DataError(f"refused: REDUCE of a {type(function).__name__}; {_ADMITTED}")
        self.consume(arguments)
        match arguments:
            case (list(items),) if function.name in _SETS:  # as protocols 2 and 3 write them
                result = _SETS[function.name](self.add(items, set()))
            case _:
                result = _CONSTRUCTORS[function.name](arguments)
        if result is None:
            raise DataError(f"refused: {function.name} is called with unexpected arguments")
        self.push(result)

    def build(self) -> None:
        target, state = self.pop(2)
        if not isinstance(target, _Unbuilt) or not isinstance(state, tuple):
            raise DataError(f"refused: BUILD of a {type(target).__name__}; {_ADMITTED}")
        self.consume(state)
        result = target.finish(state)
        if result is None:
            raise DataError("refused: an array or dtype with an unexpected state")
        self.push(result)
        self.memo.update(dict.fromkeys(target.keys, result))

    def consume(self, arguments: tuple) -> None:
        """Bound the bytes that calls process: one long string could be used a million times."""
        sized = (str, bytes, memoryview, list, tuple)
        self.consumed += sum(len(item) for item in arguments if isinstance(item, sized))
        if self.consumed > 4 * len(self.view):
            raise DataError("refused: the same bytes are used again and again")


def _plain(value: Any) -> Any:
    """Return a value of the result; raise for a name, arguments or an incomplete array."""
    if isinstance(value, (_Global, _Arguments, _Unbuilt)):
        kind = f"{value.name} itself" if isinstance(value, _Global) else "an incomplete call"
        raise DataError(f"refused: the pickle holds {kind} as a value; {_ADMITTED}")
    return value


def _shown(value: object) -> str:
    """Format a string or number for a message: its beginning, on one line, in ASCII."""
    return ascii(value[:100] if isinstance(value, (str, bytes)) else value)[:120]


# NumPy's constructors, as functions of their pickled arguments; None for unexpected arguments.
# Patterns match types before values: == of an array would compare all elements.


def _reconstruct(arguments: tuple) -> _Unbuilt | None:
    match arguments:
        case (_Global("numpy.ndarray"), (int(0),), bytes(b"b")):
            return _Unbuilt(_array_of_state)
    return None


def _array_of_state(state: tuple) -> np.ndarray | None:
    match state:
        case (int(1), tuple(shape), np.dtype() as dtype, bool(fortran), raw):
            return _array(raw, dtype, shape, "F" if fortran else "C")
    return None


def _frombuffer(arguments: tuple) -> np.ndarray | None:
    match arguments:
        case (raw, np.dtype() as dtype, tuple(shape), str("C" | "F" as order)):
            return _array(raw, dtype, shape, order)
        case (raw, np.dtype() as dtype, tuple(shape), str("K"), tuple(axes)):
            return _array(raw, dtype, shape, "C").transpose(_integers(axes))
    return None


def _scalar(arguments: tuple) -> object | None:
    match arguments:
        case (np.dtype() as dtype, bytes(b"")) if dtype.itemsize == 0:
            return dtype.type()  # an empty string
        case (np.dtype() as dtype, raw) if not dtype.hasobject:
            return _array(raw, dtype, (), "C")[()]
    return None


def _dtype(arguments: tuple) -> _Unbuilt | None:
    match arguments:
        case (str(code), False, True) if _DTYPE.fullmatch(code):
            return _Unbuilt(lambda state: _dtype_of_state(code, state))
        case (str(code), *_):
            raise DataError(f"refused: dtype {_shown(code)}; {_ADMITTED}")
    return None


def _dtype_of_state(code: str, state: tuple) -> np.dtype | None:
    match state:
        case (int(3), str("<" | ">" | "|" as order), None, None, None, int(), int(), int()):
            return np.dtype("O") if code[0] == "O" else np.dtype(code).newbyteorder(order)
    return None


def _encode(arguments: tuple) -> bytes | memoryview | None:
    match arguments:
        case (str(text), str("latin1")):
            return text.encode("latin-1")
        case (memoryview() as decoded, str("latin1")):  # decoded by push_text
            return decoded
    return None


def _empty_bytes(arguments: tuple) -> bytes | None:
    return b"" if not arguments else None


def _array(raw: Any, dtype: np.dtype, shape: tuple, order: Any) -> np.ndarray:
    kinds, unit = ((list,), 1) if dtype.hasobject else ((bytes, memoryview), dtype.itemsize)
    if type(raw) not in kinds:
        raise DataError(f"an array of {dtype} is given as a {type(raw).__name__}")
    if unit == 0:
        raise DataError(f"an array of {dtype}: elements of no bytes")
    if 0 in _integers(shape) and math.prod(axis or 1 for axis in shape) > EMPTY:
        raise DataError("an empty array has an axis that is too big")
    if len(raw) != math.prod(shape) * unit:
        what = "elements" if dtype.hasobject else "bytes"
        raise DataError(f"an array of {dtype} is given {len(raw)} {what}: not what its shape needs")
    if dtype.hasobject:
        if any(isinstance(element, np.ndarray) and element.dtype.hasobject for element in raw):
            raise DataError("refused: an array of objects in another")  # which is freed recursively
        array = np.empty(len(raw), dtype)
        for i, element in enumerate(raw):
            array[i] = element
        return array.reshape(shape)  # NumPy pickles objects in C order
    if dtype.kind == "U":
        code_points = np.ndarray(len(raw) // 4, np.dtype("u4").newbyteorder(dtype.byteorder), raw)
        if code_points.max(initial=0) > 0x10FFFF:
            raise DataError(f"an array of {dtype} holds an invalid code point")
    return np.ndarray(shape, dtype, raw, order=order)


def _integers(values: tuple) -> tuple[int, ...]:
    if len(values) > AXES:
        raise DataError(f"an array of {len(values)} dimensions; NumPy has at most {AXES}")
    if not all(type(value) is int and 0 <= value < 1 << 48 for value in values):
        raise DataError("an axis of an array is not an integer of at least 0")
    return values


_CONSTRUCTORS: dict[str, Callable[[tuple], Any]] = {
    "numpy.ndarray": lambda _: None,  # named as an argument, never called
    **dict.fromkeys(_SETS, lambda _: None),  # reduce handles a list
    "numpy.dtype": _dtype,
    "_codecs.encode": _encode,
    "__builtin__.bytes": _empty_bytes,
    "builtins.bytes": _empty_bytes,
    "numpy.core.multiarray._reconstruct": _reconstruct,
    "numpy._core.multiarray._reconstruct": _reconstruct,
    "numpy.core.multiarray.scalar": _scalar,
    "numpy._core.multiarray.scalar": _scalar,
    "numpy.core.numeric._frombuffer": _frombuffer,
    "numpy._core.numeric._frombuffer": _frombuffer,
}

_OPERATIONS: dict[int, tuple[Any, ...]] = {
    code[0]: operation
    for code, operation in {
        b"N": (_Machine.push, None),
        b"\x88": (_Machine.push, True),
        b"\x89": (_Machine.push, False),
        b"J": (_Machine.push_number, _I4),
        b"K": (_Machine.push_number, _U1),
        b"M": (_Machine.push_number, _U2),
        b"G": (_Machine.push_number, _F8),
        b"\x8a": (_Machine.push_long,),
        b"B": (_Machine.push_bytes, _U4),
        b"C": (_Machine.push_bytes, _U1),
        b"\x8e": (_Machine.push_bytes, _U8),
        b"\x96": (_Machine.push_bytes, _U8),
        b"X": (_Machine.push_text, _U4),
        b"\x8c": (_Machine.push_text, _U1),
        b"\x8d": (_Machine.push_text, _U8),
        b"]": (_Machine.push_new, list),
        b"}": (_Machine.push_new, dict),
        b"\x8f": (_Machine.push_new, set),
        b"\x90": (_Machine.add_elements,),
        b"\x91": (_Machine.push_frozenset,),
        b")": (_Machine.make_tuple, 0),
        b"\x85": (_Machine.make_tuple, 1),
        b"\x86": (_Machine.make_tuple, 2),
        b"\x87": (_Machine.make_tuple, 3),
        b"t": (_Machine.make_tuple, None),
        b"(": (_Machine.mark,),
        b"a": (_Machine.extend, 1),
        b"e": (_Machine.extend, None),
        b"s": (_Machine.set_items, 2),
        b"u": (_Machine.set_items, None),
        b"q": (_Machine.put, _U1),
        b"r": (_Machine.put, _U4),
        b"\x94": (_Machine.put, None),
        b"h": (_Machine.get, _U1),
        b"j": (_Machine.get, _U4),
        b"c": (_Machine.push_global,),
        b"\x93": (_Machine.push_stacked_global,),
        b"R": (_Machine.reduce,),
        b"b": (_Machine.build,),
        b"\x95": (_Machine.number, _U8),  # a frame only says how much to buffer
    }.items()
}
