"""Where an unfinished run keeps its checkpoint: outside the outputs, which DVC deletes first.

The folder is named by a hash of everything that decides the numbers, so that a run never
continues from a checkpoint of other code, settings, data or seed.
"""

import hashlib
import json
import shutil
from pathlib import Path

from msabench import hashes


def folder(root: Path, name: str, *decisive: Path) -> Path:
    """Return the scratch folder of a run: under root, named by the decisive files' content.

    decisive: files, or folders of Python files.
    """
    content = [
        hashes.of_folder(path, "*.py") if path.is_dir() else hashes.of_file(path)
        for path in decisive
    ]
    digest = hashlib.sha256(json.dumps(content).encode()).hexdigest()
    return root / f"{name}-{digest[:16]}"


def remove(place: Path) -> None:
    """Remove the scratch folder of a run that has ended."""
    shutil.rmtree(place, ignore_errors=True)
