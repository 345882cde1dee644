"""Measurements of speed and memory, kept in results.json: `python -m bench <name> --folder DIR`."""

import stages  # noqa: F401  the package of this tree, before NumPy
