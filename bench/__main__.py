"""``python -m bench NAME [--size small|full]``, ``python -m bench all``, ``python -m bench list``."""

from __future__ import annotations

import argparse
import sys
import time
import traceback

from bench.registry import Options, get, names
from bench.results import table, write


def main() -> int:
    """Exit codes: 0 measured (whether or not a target was reached), 1 a benchmark failed, 2 wrong use.

    With ``--strict`` a target that was not reached is a failure as well.
    """
    parser = argparse.ArgumentParser(prog="python -m bench", description="Benchmarks of Switchboard.")
    parser.add_argument("name", help=f"list, all, or one of: {', '.join(names())}")
    parser.add_argument(
        "--size", choices=["small", "full"], default="small", help="how much of everything (default: small)"
    )
    parser.add_argument(
        "--minutes", type=float, default=0.0, help="bridge.throughput: keep on that long and watch the memory"
    )
    parser.add_argument("--strict", action="store_true", help="exit with 1 when a target is not reached")
    given = parser.parse_args()
    if given.name == "list":
        for name in names():
            print(f"{name:<20}{get(name).what}")
        return 0
    wanted = names() if given.name == "all" else [given.name]
    if unknown := [name for name in wanted if name not in names()]:
        parser.error(f"there is no benchmark {unknown[0]!r}; known are {', '.join(names())}")
    options = Options(size=given.size, minutes=given.minutes)
    failed = missed = 0
    for name in wanted:
        outcome = _run(name, options)
        failed += outcome is None
        missed += outcome is False
    return 1 if failed or (given.strict and missed) else 0


def _run(name: str, options: Options) -> bool | None:
    """Run one; returns whether its targets were reached, ``None`` when it could not be measured."""
    began = time.monotonic()
    try:
        report = get(name).load()(options)
    except Exception:
        traceback.print_exc()
        print(f"{name}: could not be measured (see above).", file=sys.stderr)
        return None
    report.seconds = time.monotonic() - began
    path = write(report, size=options.size)
    print(table(report, size=options.size))
    print(f"{report.seconds:.0f} s, written to {path}\n", flush=True)
    return report.reached


if __name__ == "__main__":
    sys.exit(main())
