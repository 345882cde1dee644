"""Finding what the user keeps, and fetching through the real clients from a server of the test."""

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import fsspec
import pytest
from ruamel.yaml import YAML

from msabench import hashes
from msabench.data import download
from msabench.errors import DataError, ParamsError
from msabench.params import Dataset
from tests.hub_server import Server

ROOT = Path(__file__).resolve().parents[1]
CONTENT = random.Random(0).randbytes(2**20)
HASH = hashlib.sha256(CONTENT).hexdigest()

# The stage with short waits: in a process of its own, since the hub reads its environment once.
STAGE = """
import os
from msabench.data import download
download.WAIT, download.TIMEOUT = 0.01, float(os.environ.get("TIMEOUT", "300"))
import stages.download
stages.run(stages.download.main)
"""


def dataset(**settings):
    return Dataset(source="mmsa_pickle", title="own data", **settings)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "label.csv"
    path.write_text("content")
    return path


def test_found_by_path_then_variable_then_local_url(file, monkeypatch):
    elsewhere = "/nowhere/label.csv"
    monkeypatch.setenv("WHERE", str(file))
    for places in (
        {"path": str(file), "path_variable": "ELSEWHERE", "url": elsewhere},
        {"path": str(file.parent)},
        {"path_variable": "WHERE", "url": elsewhere},
        {"url": str(file)},
        {"url": f"file://{file}", "path_variable": "UNSET"},
    ):
        assert download.locate("d", dataset(**places), "label.csv") == file
    remote = dataset(url="https://host/label.csv", path_variable="UNSET")
    assert download.locate("d", remote, "label.csv") is None


@pytest.mark.parametrize(
    ("places", "message"),
    [
        ({"path_variable": "WHERE"}, "environment variable WHERE: 'a.csv' is relative"),
        ({"path": "/nowhere/a.csv"}, "datasets.d.path: no file at /nowhere/a.csv"),
        ({"url": "file:///nowhere/a.csv"}, "datasets.d.url: no file at /nowhere/a.csv"),
        ({"url": "a.csv"}, "datasets.d.url: 'a.csv' is relative; it must be absolute"),
        ({}, "datasets.d: neither path nor url; get a.csv and give .* as datasets.d.path"),
        (
            {"by_hand": "the drive", "path_variable": "UNSET"},
            "get a.csv from the drive and .* datasets.d.path or environment variable UNSET",
        ),
        ({"url": "s3://bucket/a.csv"}, "s3://bucket/a.csv: pip install s3fs, or get a.csv"),
        ({"url": "hf://datasets/a.csv"}, "hf://datasets/a.csv: write hf://datasets/<owner>/"),
        ({"url": "hfs://a.csv"}, "hfs://a.csv: Protocol not known: hfs; get a.csv"),
    ],
)
def test_what_to_do(places, message, monkeypatch):
    monkeypatch.setenv("WHERE", "a.csv")
    with pytest.raises(DataError, match=message):
        download.obtain("d", dataset(**places), file="a.csv", sha256="0" * 64)


@pytest.mark.parametrize("cache", ["cache", "~/cache", "{file}"])
def test_a_senseless_cache_is_refused(cache, file, monkeypatch):
    value = cache.format(file=file)
    monkeypatch.setenv("MSABENCH_CACHE", value)
    message = f"^environment variable MSABENCH_CACHE: '{value}'; permitted: the absolute path of a"
    with pytest.raises(ParamsError, match=message):
        download.obtain("d", dataset(url="https://h/a.csv"), file="a.csv", sha256="0" * 64)


def test_verify(file):
    download.verify(file, hashlib.sha256(b"content").hexdigest())
    with pytest.raises(DataError, match=r"label.csv: SHA-256 ed7002.*; expected 0000"):
        download.verify(file, "0" * 64)


def test_link_makes_no_copy(file, tmp_path):
    target = tmp_path / "linked.csv"
    download.link(file, target)
    assert target.read_text() == "content"
    assert target.samefile(file)


def test_a_folder_is_links_to_its_files(tmp_path):
    """A link to a folder would be an empty folder to DVC."""
    folder = tmp_path / "data.csd"
    (folder / "sub").mkdir(parents=True)
    (folder / "a").write_text("a")
    (folder / "sub" / "b").write_text("b")
    given = dataset(path=str(folder))
    sha256 = hashes.of_data(folder)
    assert download.obtain("d", given, file="data.csd", sha256=sha256, folder=True) == folder
    with pytest.raises(DataError, match=r"data.csd: SHA-256 .*; expected 0000"):
        download.obtain("d", given, file="data.csd", sha256="0" * 64, folder=True)
    with pytest.raises(DataError, match=r"datasets.d.path: no folder at"):
        download.locate("d", dataset(path=str(folder / "c")), "data.csd", folder=True)
    linked = tmp_path / "linked"
    download.link(folder, linked)
    assert hashes.of_data(linked) == sha256
    assert not (linked / "sub").is_symlink()
    assert (linked / "sub" / "b").readlink() == folder / "sub" / "b"


def test_another_backend_is_resumed(tmp_path, monkeypatch):
    """With one in memory for s3 and gs, which are read from a place on as this one is."""
    monkeypatch.setenv("MSABENCH_CACHE", str(tmp_path))
    fsspec.filesystem("memory").pipe("/data.pkl", b"?" * 1000 + CONTENT[1000:])
    part = tmp_path / HASH[:16] / "data.pkl.part"
    part.parent.mkdir()
    part.write_bytes(CONTENT[:1000])
    actual = download.obtain("d", dataset(url="memory://data.pkl"), file="data.pkl", sha256=HASH)
    assert actual.read_bytes() == CONTENT
    assert not part.exists()


def test_a_disk_that_is_too_small_from_the_start(tmp_path, server, monkeypatch):
    monkeypatch.setenv("MSABENCH_CACHE", str(tmp_path))
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    given = dataset(url=f"{server.address}/data.pkl")
    with pytest.raises(DataError, match=rf"{tmp_path}/\w+: 1,048,576 bytes needed, 1,000 free; "):
        download.obtain("d", given, file="data.pkl", sha256=HASH)
    assert not list(tmp_path.glob("*/*.part"))


@pytest.fixture
def server():
    server = Server(CONTENT)
    yield server
    server.shutdown()
    server.server_close()


class Tree:
    """A folder in which the download stage runs, with caches of its own and data of an earlier run.

    client: "hub" or "http", through which the data set own is fetched from the server.
    """

    def __init__(self, folder, client, server):
        self.folder, self.client = folder, client
        self.cache = folder / "cache"
        self.raw = folder / "data" / "raw" / "data.pkl"
        self.raw.parent.mkdir(parents=True)
        self.raw.write_text("earlier")
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "src")]),
            "HF_ENDPOINT": server.address,
            "HF_HOME": str(self.cache),
            "MSABENCH_CACHE": str(self.cache),
            "NO_PROXY": "127.0.0.1",
        }
        plain = f"{server.address}/data.pkl"
        self.use(url="hf://datasets/owner/name/data.pkl" if client == "hub" else plain)

    def use(self, sha256=HASH, **settings):
        yaml = YAML(typ="safe", pure=False)
        params = yaml.load(ROOT / "params.yaml")
        own = {"source": "mmsa_pickle", "title": "own", "file": "data.pkl", "sha256": sha256}
        params["datasets"]["own"] = own | {"by_hand": "the drive"} | settings
        yaml.dump(params, self.folder / "params.yaml")
        config = {"dataset": "own", "file": "data.pkl", "sha256": sha256, "folder": False}
        plan = self.folder / "runs" / "plan" / "stages" / "download.json"
        plan.parent.mkdir(parents=True, exist_ok=True)
        plan.write_text(json.dumps(config))

    def start(self, *command, **environment):
        return subprocess.Popen(
            [sys.executable, "-W", "error", *(command or ("-c", STAGE))],
            cwd=self.folder,
            env=self.environment | environment,
            stderr=subprocess.PIPE,
            text=True,
        )

    def succeed(self, *command, **environment):
        """Run the stage; it links the file. Return what it wrote on the way."""
        process = self.start(*command, **environment)
        errors = process.communicate(timeout=300)[1]
        assert process.returncode == 0, errors
        assert self.raw.is_symlink()
        assert hashes.of_file(self.raw) == HASH
        assert not self.parts()
        return errors

    def fail(self, **environment):
        """Run the stage; it leaves the data of the earlier run. Return its one line."""
        process = self.start(**environment)
        errors = process.communicate(timeout=300)[1]
        assert process.returncode == 1
        assert self.raw.read_text() == "earlier"
        message = errors.splitlines()[-1]
        assert message.startswith("error: ")
        assert "Traceback" not in errors
        by_hand = "get data.pkl from the drive and give its absolute path as datasets.own.path"
        assert message.endswith(f"{by_hand} (docs/data.md)")
        return message

    def parts(self):
        return list(self.cache.rglob("*.part"))


@pytest.fixture(params=["http", "hub"])
def tree(request, tmp_path, server):
    return Tree(tmp_path, request.param, server)


over_http = pytest.mark.parametrize("tree", ["http"], indirect=True)
over_hub = pytest.mark.parametrize("tree", ["hub"], indirect=True)


def test_fetched_once(tree, server):
    assert tree.succeed("-m", "stages.download") == ""
    assert server.starts == [0]
    requests = len(server.requests)
    tree.succeed(HF_HUB_OFFLINE="1")
    assert len(server.requests) == requests
    if tree.client == "hub":
        snapshot = "hub/datasets--owner--name/snapshots/" + "c" * 40 + "/data.pkl"
        assert (tree.cache / snapshot).samefile(tree.raw)


@pytest.mark.slow
def test_a_damaged_cache_is_mended(tree, server):
    tree.succeed()
    tree.raw.resolve().write_bytes(CONTENT[:-1] + b"?")
    tree.succeed()
    assert server.starts == [0, 0]


def test_a_cut_is_resumed(tree, server):
    server.cuts = [300_000, 300_000]
    assert "next try in" in tree.succeed()
    first, second, third = server.starts
    assert first == 0 < second <= 300_000 < third <= 600_000


@pytest.mark.slow
@over_http
def test_a_stalled_server_is_left_and_asked_again(tree, server):
    server.cuts, server.stall = [300_000], True
    tree.succeed(TIMEOUT="2")
    assert server.starts[:2] == [0, 300_000]


@pytest.mark.slow
@over_http
def test_a_server_without_ranges_is_asked_for_all(tree, server):
    server.cuts, server.ranges = [300_000], False
    tree.succeed()
    assert len(server.starts) == 2


@pytest.mark.slow
@over_http
def test_cut_too_often_says_run_again_which_goes_on(tree, server):
    server.cuts = [300_000] + [0] * (2 * download.TRIES - 1)
    assert "; run again to resume, or get " in tree.fail()
    tree.succeed()
    assert server.starts[-1] >= 300_000


@pytest.mark.slow
def test_killed_then_resumed(tree, server):
    server.pause = 0.5  # it is killed long before its end
    process = tree.start()
    while not any(part.stat().st_size > 2**17 for part in tree.parts()):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=300)
    assert tree.raw.read_text() == "earlier"
    server.pause = 0
    tree.succeed()
    assert server.starts[0] == 0
    assert 2**17 < server.starts[1] < len(CONTENT)


@pytest.mark.slow
@over_http
def test_killed_when_all_was_there(tree, server):
    part = tree.cache / HASH[:16] / "data.pkl.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(CONTENT)
    tree.succeed()
    assert server.starts == [len(CONTENT)]


@pytest.mark.slow
def test_a_slow_server(tree, server):
    """Longer than the timeout in all, which counts the seconds without a byte."""
    server.pause = 0.5
    tree.succeed(TIMEOUT="7")
    assert server.starts == [0]


@pytest.mark.slow
def test_another_hash_is_removed_and_fetched_anew(tree, server):
    server.content, server.etag = CONTENT[:-1] + b"?", HASH
    message = tree.fail()
    assert f"expected {HASH}" in message
    assert "; it is removed: run again to download it again, or get" in message
    assert not tree.parts()
    server.content = CONTENT
    tree.succeed()


@pytest.mark.slow
@over_hub
def test_another_version_on_the_hub_is_not_fetched(tree, server):
    """The ETag of a large file is its SHA-256, known before the first byte."""
    server.content = CONTENT[:-1] + b"?"
    message = tree.fail()
    assert f"expected {HASH}: another version, or get data.pkl from" in message
    assert "GET" not in {request.method for request in server.requests}


@pytest.mark.slow
def test_tries_are_not_counted_while_they_bring_the_file_on(tree, server):
    server.cuts = [len(CONTENT) // 12] * 9  # more often than there are tries
    tree.succeed()


@pytest.mark.parametrize(("status", "reason"), [(404, ": not found; get "), (403, "403")])
def test_a_refusal_is_final(tree, server, status, reason):
    server.statuses = [status]
    message = tree.fail()
    assert reason in message
    assert "run again" not in message
    assert len(server.requests) == 1


@pytest.mark.slow
def test_busy_then_success(tree, server):
    server.statuses = [503, 429, 503]
    assert "503" in tree.succeed()
    assert server.starts[-1] == 0


@pytest.mark.slow
def test_always_busy(tree, server):
    server.statuses = [503] * download.TRIES
    message = tree.fail()
    assert "503" in message
    assert "; run again to resume, or get " in message
    assert len(server.requests) == download.TRIES


@pytest.mark.slow
def test_no_server(tree, server):
    server.shutdown()
    server.server_close()
    assert "; run again to resume, or get " in tree.fail()


@over_hub
def test_offline(tree, server):
    message = tree.fail(HF_HUB_OFFLINE="1")
    assert "HF_HUB_OFFLINE" in message
    assert "run again" not in message
    assert not server.requests
    tree.succeed()


@pytest.mark.slow
@over_hub
def test_the_token_goes_to_the_hub_alone(tree, server):
    storage = Server(CONTENT)
    server.storage = storage.address
    storage.cuts = [300_000]
    tree.succeed(HF_TOKEN="hf_secret")
    assert {request.token for request in server.requests} == {"Bearer hf_secret"}
    assert [(request.start, request.token) for request in storage.requests] == [
        (0, None),
        (300_000, None),
    ]
    storage.shutdown()
    storage.server_close()


@pytest.mark.slow
@over_http
def test_two_at_a_time_fetch_once(tree, server):
    server.pause = 0.03
    processes = [tree.start(), tree.start()]
    for process in processes:
        errors = process.communicate(timeout=300)[1]
        assert process.returncode == 0, errors
    assert server.starts == [0]


@pytest.fixture
def small_disk(tree):
    tree.cache.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", str(tree.cache)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a small file system needs root")
    yield tree.cache
    subprocess.run(["umount", str(tree.cache)], check=True)


@pytest.mark.slow
@pytest.mark.parametrize("sends_size", [True, False], ids=["size sent", "size not sent"])
def test_a_full_disk(tree, server, small_disk, sends_size):
    server.length = sends_size
    expected = "1,048,576 bytes needed, " if sends_size else "No space left on device; free some"
    message = tree.fail()
    assert message.startswith(f"error: {small_disk}/")
    assert expected in message
    if not sends_size:
        subprocess.run(["mount", "-o", "remount,size=10m", str(small_disk)], check=True)
        tree.succeed()
