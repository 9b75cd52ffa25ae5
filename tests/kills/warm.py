"""Runs commands of sam-edge in forks of one warm process: `python -m tests.kills.warm LOG [CONVERTED]`.

A run takes seconds to import torch. A fork begins behind that, so that hundreds of runs can be killed. It is a process
of its own, and runs the whole command.

Each line of standard input is a JSON list of arguments. The answers are lines: the fork's process id, and its exit code
when it has ended, negative for a signal. LOG takes what the forks print. With CONVERTED, the folder of an earlier
bundle, the converter copies that bundle's graphs: a conversion takes half a minute in which nothing is written.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import torch

import sam_edge_exporters
import sam_edge_exporters.onnx
from sam_edge.cli.app import run


def use_converted(folder: Path) -> None:
    """Copy graphs of an earlier bundle instead of converting."""

    def export(graph, contract, path, conversion):
        shutil.copyfile(folder / path.name, path)
        sam_edge_exporters.onnx.check(path, contract)

    exporter = replace(sam_edge_exporters.exporter_for("onnx"), export=export)
    sam_edge_exporters.EXPORTERS["onnx"] = lambda: exporter


def main(log: str, converted: str | None = None) -> None:
    """Serve until standard input ends."""
    torch.set_num_threads(1)
    if converted is not None:
        use_converted(Path(converted))
    for line in sys.stdin:
        arguments = json.loads(line)
        child = os.fork()
        if child == 0:
            output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(output, 1)
            os.dup2(output, 2)
            code = 1
            try:
                code = run(arguments)
            finally:
                os._exit(code)
        print(child, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
