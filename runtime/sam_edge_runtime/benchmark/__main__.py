"""`python -m sam_edge_runtime.benchmark BUNDLE... --out FILE`: the benchmark on machines with only the runtime.

`sam-edge benchmark` prints tables of what this writes, and runs it on other machines. Progress goes to standard error,
a line a step.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from sam_edge_runtime.bundle.bundle import Bundle
from sam_edge_runtime.errors import SamEdgeError, UsageError, system_line
from sam_edge_runtime.system.files import write_file

from .host import contestants, measure
from .photo import benchmark_photo
from .rounds import Rounds

BAD_INPUT = 2


def main(arguments: list[str] | None = None) -> int:
    """Measure, write, and return the exit code."""
    given = _parser().parse_args(arguments)
    names = given.name or [str(path) for path in given.bundles]
    try:
        if len(set(names)) != len(given.bundles):
            raise UsageError(f"{len(set(names))} names for {len(given.bundles)} bundles: give each its own name")
        bundles = [Bundle.open(path) for path in given.bundles]
        document = measure(
            contestants(dict(zip(names, bundles, strict=True)), given.threads or [None], given.provider),
            benchmark_photo(bundles[0], given.photo),
            Rounds(given.repetitions, given.warm_up, given.budget),
            lambda what, done, total: print(f"{what} {done}/{total}", file=sys.stderr, flush=True),
        )
        write_file(given.out, (json.dumps(document) + "\n").encode(), overwrite=True)
    except SamEdgeError as error:
        return _refuse(str(error))
    except OSError as error:
        return _refuse(system_line(error))
    return 0


def _refuse(line: str) -> int:
    print(f"error: {line}", file=sys.stderr)
    return BAD_INPUT


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="sam_edge_runtime.benchmark", description="Latency and memory of bundles.")
    parser.add_argument("bundles", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="JSON file for the result")
    parser.add_argument("--name", action="append", help="name of a bundle in tables; once a bundle, in their order")
    parser.add_argument("--photo", type=Path, help="default: the first bundle's golden picture, enlarged")
    parser.add_argument(
        "--threads", type=int, action="append", help="may be repeated: measures each bundle with each number"
    )
    parser.add_argument("--provider")
    parser.add_argument("--repetitions", type=int, default=Rounds.repetitions)
    parser.add_argument("--warm-up", type=int, default=Rounds.warm_up)
    parser.add_argument("--budget", type=float, default=Rounds.budget, help="seconds")
    return parser


if __name__ == "__main__":
    sys.exit(main())
