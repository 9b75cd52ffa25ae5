"""The command reference: every command and option, as the program has them."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
import typer.main

from sam_edge.cli.app import GROUPS, VERBS, app

GROUPED = {f"{group} {name}": verb for group, (_, verbs) in GROUPS.items() for name, verb in verbs.items()}
HOOKS = Path(__file__).parents[2] / "docs" / "hooks.py"


def load_hooks() -> ModuleType:
    spec = importlib.util.spec_from_file_location("hooks", HOOKS)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def page(markdown: str) -> str:
    return load_hooks().on_page_markdown(markdown, page=None, config=None, files=None)


@pytest.fixture(scope="module")
def reference() -> str:
    return page((HOOKS.parent / "commands.md").read_text("utf-8"))


def test_every_command_has_a_section(reference):
    headings = [line for line in reference.splitlines() if line.startswith("## ")]
    assert headings == [f"## `sam-edge {name}`" for name in (*VERBS, *GROUPS)]
    headings = [line for line in reference.splitlines() if line.startswith("### ")]
    assert headings == [f"### `sam-edge {name}`" for name in GROUPED]


@pytest.mark.parametrize("name", [*VERBS, *GROUPED])
def test_every_option_and_example_is_there(reference, name):
    section = reference.partition(f"## `sam-edge {name}`\n")[2].partition("\n##")[0]
    command = typer.main.get_command(app)
    for part in name.split():
        command = command.commands[part]  # type: ignore[attr-defined]
    for parameter in command.params:
        assert all(option in section for option in parameter.opts)
    examples = {**VERBS, **GROUPED}[name].EXAMPLES
    wanted = [each for each in examples.partition(":  ")[2].split("      ") if each] if "xample" in examples else []
    assert [f"$ {each}" in section.splitlines() for each in wanted] == [True] * len(wanted)


def test_other_pages_stay_as_they_are():
    assert page("# A page\n") == "# A page\n"
