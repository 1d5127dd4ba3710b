"""``python -m tests.peers install [synapse|letta|chromium|all]``: fetch the peers; quick when they are there."""

from __future__ import annotations

import argparse
import sys
import time

from .base import PeerUnavailable
from .install import INSTALLERS


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.peers", description="The real servers that tests talk to.")
    commands = parser.add_subparsers(dest="command", required=True)
    install = commands.add_parser(
        "install", help="install peers that are missing; does nothing for those that are there"
    )
    install.add_argument("names", nargs="*", choices=[*INSTALLERS, "all"], default="all")
    names = parser.parse_args().names
    failed = False
    for name in INSTALLERS if "all" in names else names:
        began = time.monotonic()
        try:
            place = INSTALLERS[name]()
        except PeerUnavailable as error:
            failed = True
            print(f"{name}: {error}", file=sys.stderr)
        else:
            print(f"{name}: {place} ({time.monotonic() - began:.1f} s)")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
