"""Text encoders from a folder, a package and a local hub: verified, or refused in one line."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from msabench.errors import DataError
from msabench.networks import encoders
from msabench.networks.encoders import MINILM, PUBLISHED

ROOT = Path(__file__).resolve().parents[1]
COMMIT = "a" * 40
PROGRAM = """
import json, sys
from msabench.networks import encoders, text
from stages import run

def main():
    commit, sha256 = json.loads(sys.argv[1])
    encoders.PUBLISHED["bert-base-uncased"] = encoders.Published(commit, sha256, "", "")
    bert = text.load_bert("bert-base-uncased")
    print(bert.config.num_hidden_layers, text.load_tokenizer("bert-base-uncased")("good film"))

run(main)
"""


@pytest.fixture
def hub(tiny_bert):
    """A server that has the tiny BERT's files at its commit, and those only."""
    files = {path.name: path.read_bytes() for path in Path(tiny_bert).iterdir()}
    base = f"/google-bert/bert-base-uncased/resolve/{COMMIT}/"

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def do_HEAD(self):
            self.do_GET()

        def do_GET(self):
            content = files.get(self.path.removeprefix(base))
            self.send_response(200 if content is not None else 404)
            if content is not None:
                self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
                self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("Content-Length", str(len(content or b"")))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content or b"")

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.files = files  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def load(hub, cache, sha256, **variables):
    """Load the encoder in a process of its own, whose hub is the server."""
    environment = os.environ | {
        "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}",
        "OMP_NUM_THREADS": "1",
        "HF_ENDPOINT": f"http://127.0.0.1:{hub.server_port}",
        "HF_HOME": str(cache),
        "HF_HUB_DISABLE_XET": "1",
        "NO_PROXY": "127.0.0.1",
        **variables,
    }
    command = [sys.executable, "-c", PROGRAM, json.dumps([COMMIT, sha256])]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900)


def published(files):
    """The hashes of the files that an encoder needs."""
    return {
        name: hashlib.sha256(files[name]).hexdigest()
        for name in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")
    }


@pytest.mark.slow
def test_from_the_hub_and_then_without_it(hub, tmp_path):
    result = load(hub, tmp_path, published(hub.files))
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("3 {'input_ids': [2, 4, 8, 3]")
    again = load(hub, tmp_path, published(hub.files), HF_HUB_OFFLINE="1")
    assert again.stdout == result.stdout


@pytest.mark.slow
def test_other_weights_than_the_published_are_refused(hub, tmp_path):
    expected = published(hub.files)
    hub.files["model.safetensors"] = b"other weights"
    result = load(hub, tmp_path, expected)
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    digest = hashlib.sha256(b"other weights").hexdigest()
    assert line.startswith("error: ")
    assert f"model.safetensors: SHA-256 {digest}; expected {expected['model.safetensors']}" in line


@pytest.mark.slow
@pytest.mark.parametrize("variables", [{"HF_HUB_OFFLINE": "1"}, {"HF_ENDPOINT": "http://[::1]:1"}])
def test_without_a_network_it_is_one_line(hub, tmp_path, variables):
    result = load(hub, tmp_path, published(hub.files), **variables)
    assert result.returncode == 1
    line = result.stderr.splitlines()[-1]
    assert line.startswith("error: text_encoder: bert-base-uncased: ")
    assert "; or give a folder that has it (docs/" in line
    assert "Traceback" not in result.stderr


def located(name):
    with encoders.folder(name) as folder:
        return folder


def test_only_verified_files_are_in_reach(tmp_path, tiny_bert, monkeypatch):
    """What another program has put beside them is not."""
    package = tmp_path / "package"
    shutil.copytree(tiny_bert, package / "model")
    (package / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(encoders, "MINILM_PACKAGE", "package")
    files = {path.name: path.read_bytes() for path in Path(tiny_bert).iterdir()}
    monkeypatch.setitem(PUBLISHED, MINILM, encoders.Published("", published(files), "", ""))
    (package / "model/added_tokens.json").write_text("{}")
    with encoders.folder(MINILM) as folder:
        assert sorted(path.name for path in folder.iterdir()) == sorted(published(files))
        assert all(path.read_bytes() == files[path.name] for path in folder.iterdir())
    assert not folder.exists()


def test_a_folder_is_taken_as_it_is(tiny_bert):
    assert located(tiny_bert) == Path(tiny_bert)


@pytest.mark.parametrize("name", ["roberta-base", "/nowhere", "someone/bert-base-uncased"])
def test_what_is_not_known_is_refused(name):
    with pytest.raises(DataError) as caught:
        located(name)
    assert str(caught.value) == (
        f"text_encoder: no BERT at '{name}'; permitted: a folder, or one of the hub: {MINILM}, "
        "bert-base-uncased, bert-base-chinese"
    )


def test_a_damaged_minilm_is_refused(monkeypatch):
    monkeypatch.setitem(PUBLISHED[MINILM].sha256, "vocab.txt", "0" * 64)
    with pytest.raises(DataError, match=r"vocab\.txt: SHA-256 07eced.*expected 0000"):
        located(MINILM)


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr(encoders, "MINILM_PACKAGE", "no_such_package")
    with pytest.raises(DataError, match="package no_such_package is missing; `make repro` has it"):
        located(MINILM)


@pytest.mark.parametrize("name", ["bert-base-uncased", "bert-base-chinese"])
def test_each_file_of_the_hub_has_a_commit_and_a_hash(name):
    commit, sha256, licence, language = PUBLISHED[name]
    assert licence
    assert language
    assert len(commit) == 40
    assert {len(digest) for digest in sha256.values()} == {64}
    assert {"config.json", "model.safetensors", "vocab.txt"} <= set(sha256)
