"""The commands of `msabench`: one file each, discovered by name.

The docstring of a command's file is its help; its first line is that of the list of commands. The
file has `PAGE`, the page of docs/ that its errors name, `arguments(parser)`, which adds
the command's own, and `main(options)`. What takes long to import is imported in main, so that help
is fast.
"""

from importlib import import_module
from pathlib import Path
from typing import Any


def load() -> dict[str, Any]:
    """Import the commands; by name, sorted."""
    names = sorted(file.stem for file in Path(__file__).parent.glob("[!_]*.py"))
    return {name: import_module(f"msabench.commands.{name}") for name in names}
