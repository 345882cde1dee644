"""What SECURITY.md says of the code, read from the code."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted([*(ROOT / "src").rglob("*.py"), *(ROOT / "stages").rglob("*.py")])
# Modules that run or unpickle what they read, or write files that an archive names.
REFUSED = {"marshal", "shelve", "dill", "cloudpickle", "tarfile", "zipfile", "yaml", "runpy"}
# What runs, unpickles or unpacks, by its whole name.
RUNNING = re.compile(
    r"(eval|exec|compile|__import__|os\.(system|popen|exec\w+|spawn\w+)"
    r"|_?pickle\.(load|loads|Unpickler)|joblib\.load|torch\.load|.*\bread_pickle"
    r"|.*\b(unpack_archive|extract(all)?))"
)


def faults(source):
    """Return what in a program may run what it reads."""
    tree = ast.parse(source)
    whole, actual = {}, []  # names as they are written here -> as they are in their modules
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            base = f"{node.module}." if isinstance(node, ast.ImportFrom) else ""
            for alias in node.names:
                whole[alias.asname or alias.name] = base + alias.name
                actual += [alias.name] if (base + alias.name).split(".")[0] in REFUSED else []
    for node in ast.walk(tree):
        if isinstance(node, ast.Name | ast.Attribute):
            first, dot, rest = ast.unparse(node).partition(".")
            name = whole.get(first, first) + dot + rest
            actual += [name] if RUNNING.fullmatch(name) else []
        if isinstance(node, ast.Call):
            options = {option.arg: ast.unparse(option.value) for option in node.keywords}
            actual += refused_options(ast.unparse(node.func), options)
    return actual


def refused_options(name, options):
    """Return what in the options of a call lets it run what it reads."""
    actual = []
    if options.get("allow_pickle", "False") != "False":
        actual.append("allow_pickle")
    if name.endswith("np.load") and "allow_pickle" not in options:
        actual.append("np.load without allow_pickle=False")
    # rt, which keeps comments, builds no objects of other types either.
    if name == "YAML" and options.get("typ") not in ("'safe'", "'rt'"):
        actual.append("YAML that is not safe")
    if options.get("shell", "False") != "False":
        actual.append("shell")
    if options.get("trust_remote_code", "False") != "False":
        actual.append("trust_remote_code")
    if name.endswith("Model.from_pretrained") and options.get("use_safetensors") != "True":
        actual.append("weights as pickle")
    if name.endswith(("Config.from_pretrained", "Tokenizer.from_pretrained")):
        actual += [] if "trust_remote_code" in options else ["asks whether to run code"]
    return actual


# Reads files of an archive by names of its own, and extracts none.
READS_ZIP = {"src/msabench/networks/encoders.py": ["BadZipFile", "ZipFile"]}


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_nothing_that_is_read_is_run(file):
    permitted = READS_ZIP.get(str(file.relative_to(ROOT)), [])
    assert faults(file.read_text(encoding="utf-8")) == permitted


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
        "archive.extract(name)",
        "subprocess.run(command, shell=True)",
        "AutoTokenizer.from_pretrained(name, trust_remote_code=True)",
        "AutoTokenizer.from_pretrained(name)",
        "from pickle import loads; loads(text)",
        "import pickle as p; p.load(file)",
        "class Reader(pickle.Unpickler): pass",
        "numpy.load(path, allow_pickle=True)",
        "np.lib.format.read_array(file, allow_pickle=True)",
        "from torch import load; load(file)",
        "import runpy",
        "from os import system; system(text)",
        "os.execv(path, [])",
        "pandas.read_pickle(path)",
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
        if re.search(r"^\s*(import|from) _?pickle\b", file.read_text(encoding="utf-8"), re.M)
    }
    assert importing == {"src/msabench/data/sources/simulated.py"}
