"""Hostile input: mutated manifests, records, tars, photos, weights, packages and arguments end in a result or one line.

Every case is a function of its number, so a finding is rerun with `python -m tests.fuzz.worker FILE CASE 1 SURFACE`
(the file is scratch). The slow test goes on where the default one ends.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.fuzz.surfaces import SURFACES

ROOT = Path(__file__).parents[2]
PER_SURFACE = 125  # 16 surfaces, and a tenth of it for the slow one: 2,012 cases
PER_SURFACE_SLOW = 3107  # 50,022
SLOW_SURFACES = ("command_line",)  # a third of a second for each case
LONGEST_RUN = 1800  # seconds of one worker, after which the case at hand is a hang that no signal ended


def findings(surfaces: Sequence[str], first: int, count: int, folder: Path) -> list[dict[str, str]]:
    """What goes wrong in the cases `first` to `first + count - 1` of each surface.

    A crash of the worker is a finding. The run goes on behind it, with the rest of that surface first.
    """
    found: list[dict[str, str]] = []
    progress = folder / f"{surfaces[0]}.case"
    left = [(list(surfaces), first, count)]
    while left:
        names, start, cases = left.pop(0)
        progress.unlink(missing_ok=True)
        try:
            done = run_worker(progress, start, cases, names, ROOT)
            code, lines, words = done.returncode, done.stdout, done.stderr
        except subprocess.TimeoutExpired as error:
            code, lines, words = -1, (error.stdout or b"").decode(), "no signal ended it"
        found += [json.loads(line) for line in lines.splitlines() if line.startswith('{"surface"')]
        if code == 0:
            continue
        assert progress.exists(), f"the worker for {', '.join(names)} did not begin: {words[-2000:]}"
        number, surface = progress.read_text().split()
        case = int(number)
        found.append({"surface": surface, "case": case, "kind": f"exit {code}", "where": "", "text": words[-300:]})
        later = names[names.index(surface) + 1 :]
        if case + 1 < start + cases:
            left.append(([surface], case + 1, start + cases - case - 1))
        if later:
            left.append((later, start, cases))
    return found


def run_worker(
    progress: Path, first: int, count: int, surfaces: Sequence[str], cwd: Path
) -> subprocess.CompletedProcess[str]:
    """Run cases in a process that is started in the folder `cwd`."""
    paths = [str(ROOT / part) for part in ("", "exporters", "quant", "runtime")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(paths)}
    command = [sys.executable, "-m", "tests.fuzz.worker", str(progress), str(first), str(count), *surfaces]
    return subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=LONGEST_RUN, check=False
    )


def report(found: list[dict[str, str]]) -> str:
    """The findings by kind, with one example each."""
    kinds: dict[tuple[str, str, str], list[dict[str, str]]] = {}
    for each in found:
        kinds.setdefault((each["surface"], each["kind"], each["where"]), []).append(each)
    rows = [
        f"{len(each):6d}  {' '.join(kind)}: case {each[0]['case']}: {each[0]['text']}" for kind, each in kinds.items()
    ]
    return f"{len(found)} findings of {len(kinds)} kinds\n" + "\n".join(sorted(rows, reverse=True))


def fuzz(first: int, count: int, folder: Path) -> list[dict[str, str]]:
    """All surfaces, shared by two workers."""
    names = [name for name in SURFACES if name not in SLOW_SURFACES]
    shares = [(names[::2], count), (names[1::2], count), (list(SLOW_SURFACES), count // 10)]
    with ThreadPoolExecutor(2) as pool:
        found = pool.map(lambda share: findings(share[0], first, share[1], folder), shares)
        return [each for part in found for each in part]


def test_two_thousand_mutated_inputs_end_in_a_result_or_one_line(tmp_path):
    found = fuzz(0, PER_SURFACE, tmp_path)
    assert not found, report(found)


@pytest.mark.slow
def test_fifty_thousand_mutated_inputs_end_in_a_result_or_one_line(tmp_path):
    found = fuzz(PER_SURFACE, PER_SURFACE_SLOW, tmp_path)
    assert not found, report(found)


@pytest.mark.parametrize("case", [138, 145, 173])
def test_what_a_case_writes_to_a_relative_path_is_not_left_where_the_tests_run(case, tmp_path):
    """These write to `--overwrite`, `-inf` and `[1099511627776, 1099511627776]`."""
    started = tmp_path / "started"
    started.mkdir()
    done = run_worker(tmp_path / "progress", case, 1, ["command_line"], started)
    assert done.returncode == 0, done.stderr
    assert list(started.iterdir()) == []
