"""What SECURITY.md says of the code, read from the code."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted([*(ROOT / "src").rglob("*.py"), *(ROOT / "stages").rglob("*.py")])
# Modules that run or unpickle what they read, or write files that an archive names.
REFUSED = {"marshal", "shelve", "dill", "cloudpickle", "tarfile", "zipfile", "yaml"}
RUNNING = {"eval", "exec", "compile", "__import__", "os.system", "os.popen"}
UNPACKING = {"unpack_archive", "extractall"}


def calls(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), {k.arg: ast.unparse(k.value) for k in node.keywords}


def faults(source):
    """Return what in a program may run what it reads."""
    tree = ast.parse(source)
    found = []
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        found += [name for name in names if name.split(".")[0] in REFUSED]
    for name, options in calls(tree):
        last = name.rpartition(".")[2]
        if name in RUNNING or last in UNPACKING:
            found.append(name)
        if name in ("pickle.load", "pickle.loads", "pickle.Unpickler", "joblib.load", "torch.load"):
            found.append(name)
        if name == "np.load" and options.get("allow_pickle") != "False":
            found.append("np.load without allow_pickle=False")
        if name == "YAML" and options.get("typ") not in ("'safe'",):
            found.append("YAML that is not safe")
        if options.get("shell", "False") != "False":
            found.append("shell")
        if "trust_remote_code" in options:
            found.append("trust_remote_code")
        if last == "from_pretrained" and name.endswith("Model.from_pretrained"):
            found += [] if options.get("use_safetensors") == "True" else ["weights as pickle"]
    return found


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_nothing_that_is_read_is_run(file):
    assert faults(file.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "program",
    [
        "import pickle; pickle.load(file)",
        "torch.load(path)",
        "np.load(path)",
        "np.load(path, allow_pickle=True)",
        "eval(text)",
        "from tarfile import open",
        "shutil.unpack_archive(path)",
        "subprocess.run(command, shell=True)",
        "AutoTokenizer.from_pretrained(name, trust_remote_code=True)",
        "BertModel.from_pretrained(name)",
        "YAML().load(path)",
        "import yaml",
    ],
)
def test_such_programs_would_be_found(program):
    assert faults(program) != []


def test_only_the_simulator_writes_a_pickle():
    importing = {
        file.relative_to(ROOT).as_posix()
        for file in FILES
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Import) and any(alias.name == "pickle" for alias in node.names)
    }
    assert importing == {"src/msabench/sources/simulated.py"}
