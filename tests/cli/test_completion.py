"""Completion of verbs and options in a shell, installed by `--install-completion` into a home folder of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = [str(ROOT / room) for room in (".", "exporters", "quant", "runtime")]
# What a shell reads at its start, and where the script lies (Typer's choice).
FILES = {"bash": (".bashrc", ".bash_completions/sam-edge.sh"), "zsh": (".zshrc", ".zfunc/_sam-edge")}


@pytest.fixture
def home(tmp_path):
    """A home folder with the command, as pip would have installed it, in its `bin`."""
    command = tmp_path / "bin" / "sam-edge"
    command.parent.mkdir()
    command.write_text(
        f"#!{sys.executable}\nimport sys\nsys.path[:0] = {ROOMS!r}\nfrom sam_edge.cli import main\nmain()\n"
    )
    command.chmod(0o755)
    return tmp_path


def in_shell(name: str, home: Path, script: str, **variables: str) -> str:
    """What a shell prints for a script.

    Where the shell is not installed, bash runs under its name: Typer looks at the name of the process that started it.
    """
    shell = shutil.which(name)
    if shell is None:
        shell = str(home / "bin" / name)
        if not Path(shell).exists():
            Path(shell).symlink_to(shutil.which("bash") or pytest.skip("there is no bash"))
    path = f"{home / 'bin'}{os.pathsep}{os.environ['PATH']}"
    environment = {"HOME": str(home), "PATH": path, **variables}
    done = subprocess.run(
        [shell, "-c", f"{script}; exit $?"], capture_output=True, text=True, check=False, env=environment, cwd=home
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("shell", FILES)
def test_installing_writes_the_script_and_what_reads_it(home, shell):
    start, script = FILES[shell]
    said = in_shell(shell, home, "sam-edge --install-completion")
    assert f"{shell} completion installed in" in said.replace("\n", " ")
    assert "_SAM_EDGE_COMPLETE=complete_" + shell in (home / script).read_text()
    assert Path(script).parts[0] in (home / start).read_text()
    shown = in_shell(shell, home, "sam-edge --show-completion")
    assert shown.strip() in (home / script).read_text()


def test_bash_completes_verbs_and_options_by_the_script(home):
    """The function that the script defines, called as bash calls it for a word and for the option of a verb."""
    in_shell("bash", home, "sam-edge --install-completion")
    ask = (
        "source .bash_completions/sam-edge.sh; COMP_WORDS=({words}); COMP_CWORD={last}; "
        "$(complete -p sam-edge | sed -n 's/.* -F \\([^ ]*\\) .*/\\1/p') sam-edge; echo ${{COMPREPLY[*]}}"
    )
    assert in_shell("bash", home, ask.format(words="sam-edge ex", last=1)).split() == ["export", "export-clip"]
    assert in_shell("bash", home, ask.format(words="sam-edge do", last=1)).split() == ["download", "doctor"]
    assert in_shell("bash", home, ask.format(words="sam-edge export --inp", last=2)).split() == ["--input-size"]


def test_nothing_is_written_unless_it_is_asked_for(home):
    in_shell("bash", home, "sam-edge --version")
    assert [path.name for path in home.iterdir()] == ["bin"]
