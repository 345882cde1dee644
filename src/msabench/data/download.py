"""Raw data: locate or download the files of a data set, verify them, link them into the tree."""

import errno
import io
import os
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import platformdirs
import tenacity
from filelock import FileLock
from tqdm import tqdm

from msabench import hashes, program
from msabench.errors import DataError, ParamsError
from msabench.params import Dataset

Result = TypeVar("Result")

TRIES = 5
WAIT = 2.0  # seconds before the second try, doubled before each further one
TIMEOUT = 60.0  # seconds without a byte from the server


def obtain(name: str, dataset: Dataset, *, file: str, sha256: str, folder: bool = False) -> Path:
    """Return the path of the verified raw data: the user's copy, else downloaded from the url.

    folder: the data are a folder. Raises DataError with the problem and its solution.
    """
    path = locate(name, dataset, file, folder=folder)
    if path is not None:
        verify(path, sha256)
        return path
    by_hand = (
        f"get {file}"
        + (f" from {dataset.by_hand}" if dataset.by_hand else "")
        + f" and give its absolute path as datasets.{name}.path"
        + (f" or environment variable {dataset.path_variable}" if dataset.path_variable else "")
    )
    if folder or not dataset.url:
        problem = "no path (a folder is not downloaded)" if folder else "neither path nor url"
        raise DataError(f"datasets.{name}: {problem}; {by_hand}")
    try:
        return fetch(dataset.url, file, sha256)
    except ParamsError:
        raise
    except DataError as error:
        raise DataError(f"{error}, or {by_hand}") from error
    except Exception as error:  # fsspec's backends raise many types
        retry = "run again to resume, or " if _is_transient(error) else ""
        raise DataError(f"{dataset.url}: {_reason(error)}; {retry}{by_hand}") from error


def locate(name: str, dataset: Dataset, file: str, *, folder: bool = False) -> Path | None:
    """Return the user's copy of the data: by path, environment variable, or url of a local file.

    A given folder means the file of that name in it, unless the data are a folder. Raises DataError
    for a relative path and for one that does not exist.
    """
    variable, url = dataset.path_variable or "", (dataset.url or "").removeprefix("file://")
    settings = {
        f"datasets.{name}.path": dataset.path,
        f"environment variable {variable}": os.environ.get(variable),
        f"datasets.{name}.url": None if "://" in url else url,
    }
    for setting, text in settings.items():
        if not text:
            continue
        path = Path(text)
        if not path.is_absolute():
            raise DataError(f"{setting}: {text!r} is relative; it must be absolute")
        if path.is_dir() and not folder:
            path /= file
        if not (path.is_dir() if folder else path.is_file()):
            raise DataError(f"{setting}: no {'folder' if folder else 'file'} at {path}")
        return path
    return None


def verify(path: Path, sha256: str) -> None:
    """Raise DataError where the SHA-256 of the file or folder is another.

    A folder may contain no empty folder: neither hash nor links would show it, and its files are
    probably missing.
    """
    for folder in sorted(path.glob("[!.]*/")):
        if not hashes.files_in(folder):
            raise DataError(
                f"{folder}: no file; remove the folder if the data have none of its kind"
            )
    digest = hashes.of_data(path)
    if digest != sha256:
        raise DataError(
            f"{path}: SHA-256 {digest}; expected {sha256}: damaged, incomplete or another version; "
            "get it again, or if it is the intended one, set its sha256 in params.yaml"
        )


def link(source: Path, target: Path) -> None:
    """Link a file, or each file of a folder, to the target folder.

    Only files are linked: DVC sees a link to a folder as an empty folder.
    """
    for file in hashes.files_in(source) if source.is_dir() else [source]:
        linked = target / file.relative_to(source)
        linked.parent.mkdir(parents=True, exist_ok=True)
        linked.symlink_to(file.absolute())


def fetch(url: str, file: str, sha256: str) -> Path:
    """Return the file at the url, verified; downloads are cached."""
    if url.startswith("hf://"):
        return _fetch_from_hub(url, sha256)
    default = Path(platformdirs.user_cache_dir("msabench"))
    cache = program.variable("MSABENCH_CACHE", default, _cache, "the absolute path of a folder")
    target = cache / sha256[:16] / file
    _complete(target, url, {}, sha256)
    return target


def _cache(text: str) -> Path:
    path = Path(text)  # absolute: queued runs have another working directory
    if not path.is_absolute() or (path.exists() and not path.is_dir()):
        raise ValueError(text)
    return path


def _fetch_from_hub(url: str, sha256: str) -> Path:
    """Download hf://datasets/<owner>/<name>[@revision]/<file> into the hub's own cache.

    hf_hub_download alone would restart from 0 after a killed run: here it only registers the blob,
    which is already complete in its cache.
    """
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_download, hf_hub_url
    from huggingface_hub.errors import LocalEntryNotFoundError
    from huggingface_hub.file_download import repo_folder_name
    from huggingface_hub.utils import build_hf_headers

    parts = re.fullmatch(r"hf://datasets/([^/@]+/[^/@]+)(?:@([^/]+))?/(.+)", url)
    if not parts:
        raise DataError(f"{url}: write hf://datasets/<owner>/<name>[@revision]/<file>")
    repository: dict[str, Any] = {"repo_id": parts[1], "repo_type": "dataset"}
    file = repository | {"revision": parts[2], "filename": parts[3]}
    try:
        cached = Path(hf_hub_download(**file, local_files_only=True))
        if hashes.of_file(cached) == sha256:
            return cached
    except LocalEntryNotFoundError:
        pass
    address = hf_hub_url(**file)
    etag = _retry(get_hf_file_metadata, address).etag
    if etag is None:
        raise DataError(f"{address}: no ETag; set HF_ENDPOINT to a Hugging Face hub")
    if re.fullmatch("[0-9a-f]{64}", etag) and etag != sha256:  # of a large file: its SHA-256
        raise DataError(f"{address}: SHA-256 {etag}; expected {sha256}: another version")
    blob = Path(constants.HF_HUB_CACHE) / repo_folder_name(**repository) / "blobs" / etag
    _complete(blob, address, build_hf_headers(), sha256)
    hf_hub_download(**file)
    return blob


def _complete(target: Path, url: str, headers: dict[str, str], sha256: str) -> None:
    """Download the file at the url to the target atomically, verified.

    After an interruption, <target>.part remains for the next try or run to resume from.
    """
    part = target.with_name(f"{target.name}.part")
    part.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{part}.lock"):
        if target.exists() and hashes.of_file(target) == sha256:
            return
        _fetch_all(part, url, headers)
        digest = hashes.of_file(part)
        if digest != sha256:
            part.unlink()
            raise DataError(
                f"{url}: SHA-256 {digest}; expected {sha256}: damaged or another version;"
                " it is removed: run again to download it again"
            )
        os.replace(part, target)


def _fetch_all(part: Path, url: str, headers: dict[str, str]) -> None:
    """Download the file, with more tries as long as they make progress."""
    reached = _size(part)
    while True:
        try:
            return _retry(_append, part, url, headers)
        except Exception as error:
            previous, reached = reached, max(reached, _size(part))
            if reached == previous or not _is_transient(error):
                raise


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _append(part: Path, url: str, headers: dict[str, str]) -> None:
    """Download the rest of the file, or all of it from a server without range requests.

    Raises DataError where the disk is too small.
    """
    start = _size(part)
    try:
        stream, start, size = _open(url, headers, start)
        with stream:
            _check_space(part.parent, size - start if size else 0)
            with part.open("ab" if start else "wb") as file, _progress(url, start, size) as bar:
                while block := stream.read(2**20):
                    file.write(block)
                    bar.update(len(block))
                file.flush()
                os.fsync(file.fileno())
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DataError(f"{part.parent}: {error.strerror}; free some, run again") from error
        raise


def _open(url: str, headers: dict[str, str], start: int) -> tuple[io.IOBase, int, int | None]:
    """Open the file at the url at byte `start`, or at 0 where its server has no range requests.

    Returns the stream, its first byte's position, and the size of the whole file, if known.
    """
    import fsspec

    if not url.startswith(("http://", "https://")):
        try:
            files, path = fsspec.url_to_fs(url)
        except ImportError as error:
            package = getattr(error.__cause__, "name", None) or error
            raise DataError(f"{url}: pip install {package}") from error
        stream = files.open(path, "rb")
        stream.seek(start)
        return stream, start, stream.size

    from aiohttp import ClientTimeout

    timeout = ClientTimeout(total=None, sock_connect=TIMEOUT, sock_read=TIMEOUT)
    files, path = fsspec.url_to_fs(url, client_kwargs={"timeout": timeout, "trust_env": True})
    headers = headers | {"Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    try:
        # Without a size, fsspec requests it first, and turns every failure into "not found".
        stream = files.open(path, "rb", block_size=0, size=1, headers=headers)
    except Exception as error:
        if _status(error) != 416:
            raise
        return io.BytesIO(), start, start  # the part is complete
    if stream.r.status != 206:
        start = 0
    length = stream.r.content_length
    return stream, start, None if length is None else start + length


def _progress(url: str, start: int, size: int | None) -> "tqdm[Any]":
    """Show bytes, rate and remaining time on a terminal, nothing elsewhere."""
    name = url.rpartition("/")[2]
    return tqdm(desc=name, total=size, initial=start, unit="B", unit_scale=True, disable=None)


def _check_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise DataError(f"{folder}: {needed:,} bytes needed, {free:,} free; free some, run again")


def _retry(function: Callable[..., Result], *arguments: object) -> Result:
    """Call the function, again after growing waits while it fails with a transient error."""
    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception(_is_transient),
        stop=tenacity.stop_after_attempt(TRIES),
        wait=tenacity.wait_exponential(multiplier=WAIT, max=60),
        before_sleep=_print_retry,
        reraise=True,
    )
    return retrying(function, *arguments)


def _print_retry(state: tenacity.RetryCallState) -> None:
    if state.outcome and state.next_action:
        reason = _reason(state.outcome.exception())
        print(f"{reason}: next try in {state.next_action.sleep:.0f} s", file=sys.stderr)


def _is_transient(error: BaseException) -> bool:
    """Return whether an error is transient: no or a broken response, 408, 429, 5xx."""
    from aiohttp import ClientError
    from httpx2 import TransportError
    from huggingface_hub.errors import OfflineModeIsEnabled

    status = _status(error)
    if status is not None:
        return status in (408, 429) or status >= 500
    network = (ConnectionError, TimeoutError, ClientError, TransportError)
    return isinstance(error, network) and not isinstance(error, OfflineModeIsEnabled)


def _status(error: BaseException | None) -> int | None:
    """Return the HTTP status in an error of aiohttp or of the hub."""
    response = getattr(error, "response", error)
    return getattr(response, "status", None) or getattr(response, "status_code", None)


def _reason(error: BaseException | None) -> str:
    """Return the cause of an error in one line."""
    if type(error) is FileNotFoundError or _status(error) == 404:
        return "not found"  # fsspec's message is the url alone, the hub's is long
    return " ".join(str(error).split()) or type(error).__name__
