"""Fuzz the importer of pickles: whatever a file holds, it gives data or a DataError.

    python -m tests.fuzz_pickle --seconds 600 --seed 1 [--cases-dir DIR]

A case is the pickle of a small data set in MMSA's form, of any protocol, damaged in its values,
its operations or its bytes. It follows from the seed and its number alone, so that a worker that
crashes or hangs need report nothing. Every case that fails is saved.
"""

import argparse
import os
import pickle
import pickletools
import resource
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

from bench.harness import ROOT, record  # before NumPy

# isort: split
import numpy as np

from msabench.data.pickle_reader import PROTOCOLS
from msabench.data.sources import mmsa_pickle
from msabench.errors import DataError
from msabench.utterances import SPLITS, check_splits

DTYPES = ("f8", "f4", ">f8", "f2", "i4", "u1")
SECONDS = 10  # that a case may take
MEGABYTES = 512  # that a worker may take beyond what its imports took
CASES = 2000  # after which a worker is replaced
LONGEST = 500  # characters of a message

# What reading a file must not make the interpreter do; the files that it opens are looked at apart
FORBIDDEN = (
    *("import", "exec", "compile", "pickle.", "marshal.", "subprocess.", "socket.", "ctypes."),
    *("os.system", "os.exec", "os.fork", "os.spawn", "os.posix_spawn", "shutil."),
)


# Valid data


def data_set(rng: Random) -> dict[Any, Any]:
    """Return three splits in one of the forms that such files have."""
    n, steps, dtype = rng.choice([0, 1, 3, 3, 3]), rng.randint(1, 5), rng.choice(DTYPES)
    lengths, generator = rng.random() < 0.5, np.random.default_rng(rng.getrandbits(32))
    content: dict[Any, Any] = {}
    for split in SPLITS:
        audio = generator.uniform(0, 9, size=(n, steps, 4)).astype(dtype)
        vision = generator.normal(size=(n, rng.choice([1, 3, 3, 300]), 2))
        content[split] = {
            "id": column(rng, [f"{split}{i}$_${i}" for i in range(n)]),
            "raw_text": column(rng, ["good", "très bien", "x" * 1500][:n]),
            "regression_labels": column(rng, generator.uniform(-3, 3, n).tolist()),
            "regression_labels_T": column(rng, [1.0, 0, 2][:n]),
            "annotations": ["Positive"] * n,
            "classes": {-1, 0, 1},  # of numbers: the order of strings differs between processes
            "speakers": frozenset(range(n)),
            "audio": np.asfortranarray(audio) if rng.random() < 0.2 else audio,
            "vision": vision,
            "text_bert": np.ones((n, 3, steps), rng.choice(["f8", "i8", "f4"])),
        }
        if lengths:
            content[split]["audio_lengths"] = column(rng, [1] * n)
            content[split]["vision_lengths"] = np.ones(n, int)
    return content


def column(rng: Random, values: list) -> object:
    """Return one value per utterance as one of the sequences that files hold."""
    forms: list[Callable[[list], object]] = [list, tuple, lambda values: np.array(values, object)]
    if None not in values:
        forms += [np.array, lambda values: list(np.array(values))]  # an array, NumPy's scalars
    return rng.choice(forms)(values)


VALUES: list[object] = [
    *(None, True, -1, 0, 0.5, 2**31, 2**63, -(2**100), 10**400, 1e300),
    *(float("nan"), float("-inf"), np.float32("nan"), np.float64(1), np.int64(-1), 1j),
    *("", "x" * 3000, "a\nb\u2028", "\ud800", "\U0001f600", b"\xff" * 2000),
    *([], {}, (), [[[1.0]]], {"a": {"b": []}}, {str(i) * 40: i for i in range(30)}),
    *(
        object,
        {1},
        frozenset(),
        {2**100, 0.5},
        {(1, 2)},
        np.dtype("f4"),
        np.array(1.0),
        np.zeros((0, 3, 2)),
        np.array([[["a"]]]),
    ),
    *(np.array([None, [1], "a"], object), np.array(["2020"], "M8[D]"), np.zeros(2, [("a", "f4")])),
    *(np.full((2, 3, 4), np.nan), np.full((1, 3, 2), 6e4, "f2"), np.array(["a" * 999])),
    *(np.full((3, 3, 4), -np.inf), np.frombuffer(b"\x01\0\0\0\0\0\xf0\x7f" * 36).reshape(3, 3, 4)),
]


def spoil(rng: Random, content: dict[Any, Any]) -> None:
    """Replace a split, a value of a split, or one within that, by something else."""
    split = content[rng.choice(SPLITS)]
    if not isinstance(split, dict):  # spoilt before
        return
    key = rng.choice([*split, "regression_labels_V", "x" * 2000, 7])
    old, value = split.get(key), rng.choice(VALUES)
    match rng.randrange(8):
        case 0:
            content[rng.choice([*SPLITS, "\U0001f600" * 100])] = value
        case 1 | 2 | 3 if isinstance(old, (list, tuple)) and old:
            split[key] = [value, *old[1:]]
        case 1 | 2 | 3 if isinstance(old, np.ndarray) and old.dtype.kind == "f" and old.size:
            split[key] = old.copy()
            split[key].flat[rng.randrange(old.size)] = rng.choice([np.nan, -np.inf, 0, 6e4])
        case 4 if isinstance(old, np.ndarray) and old.ndim:
            split[key] = rng.choice([old[:1], old.T, old.astype(object), old.ravel(), old[::-1]])
        case _:
            split[key] = value


# Damage


def operations(file: bytes) -> list[bytes]:
    """Split a pickle into its operations, each with its argument."""
    starts = [position for _, _, position in pickletools.genops(file)]
    return [file[a:b] for a, b in zip(starts, [*starts[1:], len(file)], strict=True)]


FRAGMENTS = [
    *(opcode.code.encode("latin-1") for opcode in pickletools.opcodes),
    *(b"cos\nsystem\n", b"cos\nsystem\n\x8c\x04true\x85R", b"\x8c\x02os\x8c\x06system\x93"),
    *(b"(ios\nsystem\n", b"cnumpy\nndarray\n", b"cnumpy\ndtype\n", b"c_codecs\nencode\n"),
    b"cnumpy._core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R",
    b"cnumpy\ndtype\n\x8c\x02O8\x89\x88\x87R(K\x03\x8c\x01|NNNK\x00K\x00K\x00tb",
    b"cnumpy\ndtype\n\x8c\x02f8\x89\x88\x87R(K\x03\x8c\x01<NNNK\x00K\x00K\x00tb",
    *(b"\x8a\xff" + b"\x7f" * 255, b"\x8a\x08" + b"\xff" * 7 + b"\x7f", b"K\x00\x85", b"M\xff\xff"),
    *(b"\x8f(K\x01\x90", b"(K\x01\x91", b"cbuiltins\nset\n](K\x01e\x85R", b"cbuiltins\nset\n"),
    *(b"]q\x00h\x00a", b"G\x7f\xf0\x00\x00\x00\x00\x00\x01", b"C\x08" + b"\xff" * 8),
]
SIZES = (0, 1, 127, 255, 256, 2**16, 2**31 - 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1)


def damage_operations(rng: Random, file: bytes) -> bytes:
    """Delete, repeat, exchange, insert or change a few operations."""
    parts = operations(file)
    for _ in range(rng.choice([1, 1, 1, 2, 4])):
        i, j = rng.randrange(len(parts)), rng.randrange(len(parts))
        part = parts[i]
        match rng.randrange(8):
            case 0:
                parts[i] = b""
            case 1:
                parts[i] = part * rng.choice([2, 3, 100])
            case 2:
                parts[i], parts[j] = parts[j], part
            case 3:
                parts[i] = parts[j]
            case 4:
                parts[i] = part + rng.choice(FRAGMENTS)
            case 5:
                parts[i] = rng.choice(FRAGMENTS)
            case 6:  # another value from the memo, instead or besides
                parts[i] = bytes([ord("h"), rng.randrange(60)]) + part * rng.randrange(2)
            case 7:  # another argument, or another length than that of what follows
                width = rng.choice([1, 2, 4, 8])
                argument = (rng.choice(SIZES) % 256**width).to_bytes(width, "little")
                parts[i] = part[:1] + argument + part[1 + width :]
    return b"".join(parts)


def damage_bytes(rng: Random, file: bytes) -> bytes:
    """Flip, replace, insert, delete or repeat a few bytes, or cut the end off."""
    damaged = bytearray(file)
    for _ in range(rng.choice([1, 1, 2, 5])):
        i = rng.randrange(len(damaged))
        match rng.randrange(6):
            case 0:
                damaged[i] ^= 1 << rng.randrange(8)
            case 1:
                damaged[i] = rng.randrange(256)
            case 2:
                damaged[i:i] = rng.randbytes(rng.randint(1, 4))
            case 3:
                del damaged[max(i, 1) : i + rng.choice([1, 2, 8])]
            case 4:
                damaged[i:i] = damaged[i : i + rng.choice([1, 8, 64])]
            case 5:
                del damaged[max(i, 1) :]
    return bytes(damaged)


SETTINGS: dict[str, list] = {
    "aligned": [False, False, True],
    "padding": ["auto", "end", "front"],
    "lengths": ["repair", "file", "padding"],
    "not_finite": ["zero", "zero", "refuse"],
}


def case(seed: int, number: int) -> tuple[bytes, dict[str, Any]]:
    """Return the file of a case, and the settings to read it with."""
    rng = Random(f"{seed} {number}")
    ways = rng.choice(["values", "operations", "bytes", "values operations", "operations bytes"])
    content = data_set(rng)
    for _ in range(rng.choice([1, 1, 2, 4]) if "values" in ways else 0):
        spoil(rng, content)
    file = pickle.dumps(content, rng.choice(PROTOCOLS))
    if "operations" in ways:
        file = damage_operations(rng, file)
    if "bytes" in ways:
        file = damage_bytes(rng, file)
    return file, {name: rng.choice(values) for name, values in SETTINGS.items()}


# A worker


class Watch:
    """Note what the interpreter does, during a read, that reading a file does not need."""

    def __init__(self) -> None:
        self.found = ""
        self.on = False
        sys.addaudithook(self)

    @contextmanager
    def during(self, path: Path) -> Iterator[None]:
        self.path, self.folders = path, {path.parent, Path(tempfile.gettempdir())}
        modules = set(sys.modules)
        self.found, self.on = "", True
        try:
            yield
        finally:
            self.on = False
            self.found = self.found or " ".join(sorted(set(sys.modules) - modules))

    def __call__(self, event: str, arguments: tuple) -> None:
        if not self.on:
            return
        opened = event == "open" and not isinstance(arguments[0], int)
        if event.startswith(FORBIDDEN) or (opened and not self.permits(os.fsdecode(arguments[0]))):
            self.found = self.found or f"{event} {arguments!a}"[:200]

    def permits(self, name: str) -> bool:
        """Say whether a file may be opened: that to be read, and temporary ones."""
        path = Path(name)
        return path == self.path or path in self.folders or path.parent in self.folders


def prepare() -> Watch:
    """Make warnings errors in this process, limit its memory, and import what is imported late."""
    warnings.simplefilter("error")
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + (MEGABYTES << 20)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    watch = Watch()
    with tempfile.TemporaryDirectory() as folder:
        for protocol in PROTOCOLS:
            path = Path(folder) / f"{protocol}.pkl"
            path.write_bytes(pickle.dumps(data_set(Random(1)), protocol))
            outcome(path, {}, watch)
    return watch


def outcome(path: Path, settings: dict[str, Any], watch: Watch) -> tuple[str, str]:
    """Read a file and return how that ended, and what there is to say of it; die if it hangs."""
    signal.alarm(SECONDS)
    with watch.during(path):
        try:
            check_splits(mmsa_pickle.read(path, **settings), (-3, 3))
            kind, detail = "data", ""
        except DataError as error:
            detail = str(error)
            kind = "DataError" if detail.isprintable() and len(detail) <= LONGEST else "message"
        except Exception as error:
            kind, detail = type(error).__name__, str(error)
    signal.alarm(0)
    return ("watch", watch.found) if watch.found else (kind, detail)


def work(seed: int, first: int) -> None:
    """Run cases from the first on and print how each ended."""
    watch = prepare()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "case.pkl"
        for number in range(first, first + CASES):
            file, settings = case(seed, number)
            path.unlink(missing_ok=True)  # the former file may still be mapped
            path.write_bytes(file)
            kind, detail = outcome(path, settings, watch)
            print(f"{kind} {detail[:LONGEST]!a}", flush=True)


# The parent


def results(seed: int, end: float) -> Iterator[str]:
    """Yield how case after case ends, until the end of time."""
    number = 0
    while time.monotonic() < end:
        command = [
            sys.executable,
            "-m",
            "tests.fuzz_pickle",
            "--seed",
            str(seed),
            "--work",
            str(number),
        ]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, env=environment
        ) as worker:
            assert worker.stdout is not None
            for line in worker.stdout:
                yield line.rstrip("\n")
                number += 1
                if time.monotonic() >= end:
                    worker.kill()
                    return
        if worker.returncode == -signal.SIGALRM:
            yield "timeout ''"
        elif worker.returncode < 0:
            yield f"crash {signal.Signals(-worker.returncode).name}"
        elif worker.returncode > 0:
            raise SystemExit(f"error: a worker failed; see: {' '.join(command)}")
        number += worker.returncode < 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--cases-dir", type=Path, default=ROOT / "runs" / "fuzz")
    parser.add_argument("--record", action="store_true", help="keep the counts in results.json")
    parser.add_argument("--work", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work is not None:
        return work(options.seed, options.work)
    counts: Counter[str] = Counter()
    print(f"seed {options.seed}, {options.seconds:g} seconds")
    for number, result in enumerate(results(options.seed, time.monotonic() + options.seconds)):
        kind = result.split(" ", 1)[0]
        counts[kind] += 1
        if kind not in ("data", "DataError"):
            options.cases_dir.mkdir(parents=True, exist_ok=True)
            saved = options.cases_dir / f"{options.seed}-{number}-{kind}.pkl"
            file, settings = case(options.seed, number)
            saved.write_bytes(file)
            print(f"{saved}: {settings}: {result}", flush=True)
    print(", ".join(f"{kind}: {count}" for kind, count in counts.most_common()))
    passed = counts["data"] + counts["DataError"]
    failed = counts.total() - passed
    if options.record:
        figures = {"seed": options.seed, "seconds": options.seconds, "failed": failed}
        record("fuzz_pickle", {"cases": counts.total(), **counts, **figures})
    print(f"{passed} passed, {failed} failed")
    raise SystemExit(failed > 0 or passed == 0)


if __name__ == "__main__":
    main()
