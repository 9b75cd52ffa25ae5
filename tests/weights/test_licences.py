"""Weights under licences that restrict: named, shown in red, and fetched only after the user accepted."""

from __future__ import annotations

import io
from dataclasses import replace

import huggingface_hub
import pytest
import torch

from sam_edge.cli import models
from sam_edge.cli.app import run
from sam_edge.cli.console import SafeConsole
from sam_edge.model import VARIANTS
from sam_edge.weights.catalogue import RELEASES, SHIPPED
from sam_edge.weights.download import download
from sam_edge.weights.licences import ACCEPT_VARIABLE, NO_COMMERCE, SOURCE, licence_in_card, restriction
from sam_edge.weights.load import load_sam
from sam_edge.weights.recognition import read_checkpoint
from sam_edge.weights.source import parse_source
from sam_edge_runtime.errors import CheckpointError, UsageError
from tests.weights.conftest import cached_repository

TERMS = "https://example.org/licence"


@pytest.fixture(autouse=True)
def undecided(monkeypatch):
    """No licence is accepted, and what a command accepts ends with the test."""
    monkeypatch.setenv(ACCEPT_VARIABLE, "")


@pytest.fixture
def restricted(release, monkeypatch):
    """A release that nobody may sell, in the catalogue."""
    entry = replace(release, licence="CC-BY-NC-4.0", terms=TERMS)
    monkeypatch.setitem(RELEASES, entry.variant, entry)
    return entry


@pytest.mark.parametrize(
    ("licence", "kind"),
    [
        ("CC-BY-NC-4.0", NO_COMMERCE),
        ("cc-by-nc-sa-4.0", NO_COMMERCE),
        ("PolyForm-Noncommercial-1.0.0", NO_COMMERCE),
        ("LicenseRef-S-Lab-1.0", NO_COMMERCE),
        ("fair-noncommercial-research-license", NO_COMMERCE),
        ("apple-amlr", NO_COMMERCE),
        ("AGPL-3.0-only", SOURCE),
        ("agpl-3.0", SOURCE),
        ("GPLv3", SOURCE),
        ("LGPL-2.1-or-later", SOURCE),
        ("Apache-2.0 AND GPL-2.0-only", SOURCE),
        ("Apache-2.0 OR GPL-2.0-only", None),
        ("Apache-2.0", None),
        ("mit", None),
        ("NCSA", None),  # the university's, not a NonCommercial one
        ("BSD-3-Clause", None),
        ("CC-BY-SA-4.0", None),
        ("NOASSERTION", None),
        ("", None),
    ],
)
def test_restrictions_are_read_off_the_name(licence, kind):
    assert restriction(licence) == kind


def test_nothing_that_is_built_in_is_restricted():
    assert [each.variant for each in (*SHIPPED.values(), *RELEASES.values()) if restriction(each.licence)] == []


def test_a_restricting_entry_says_where_its_licence_can_be_read(release):
    with pytest.raises(UsageError, match=r"vit_x: AGPL-3\.0-only restricts its users: say in `terms`"):
        replace(release, licence="AGPL-3.0-only")


def test_a_restricted_release_is_fetched_only_after_it_was_accepted(server, cache, restricted, monkeypatch):
    with pytest.raises(UsageError) as error:
        download(restricted, progress=False)
    message = str(error.value)
    for part in ("vit_x, CC-BY-NC-4.0, forbids commercial use", TERMS, "--accept-licence"):
        assert part in message
    assert (server.requested, cache.exists()) == ([], False)
    monkeypatch.setenv(ACCEPT_VARIABLE, "1")
    assert download(restricted, progress=False).read_bytes() == server.body
    monkeypatch.setenv(ACCEPT_VARIABLE, "0")
    assert download(restricted, progress=False) == cache / restricted.file  # it is there, so it was accepted
    assert server.requested == [None]


def test_the_commands_ask_for_acceptance(server, cache, restricted, capsys, monkeypatch):
    assert run(["download", "vit_x"]) == 2
    assert "CC-BY-NC-4.0, forbids commercial use" in capsys.readouterr().err
    assert server.requested == []
    assert run(["download", "vit_x", "--accept-licence"]) == 0
    assert server.requested == [None]
    capsys.readouterr()
    assert run(["models"]) == 0
    assert f"its licence, CC-BY-NC-4.0, forbids commercial use: {TERMS}" in capsys.readouterr().out
    # export by name reads what download fetched, and says how to fetch it
    monkeypatch.setitem(RELEASES, "tiny_vit", replace(restricted, variant="tiny_vit", file="other.pth"))
    assert run(["export", "--model", "tiny_vit", "--out", str(cache / "out")]) == 2
    error = " ".join(capsys.readouterr().err.split())
    assert "run `sam-edge download tiny_vit --accept-licence` (its licence, CC-BY-NC-4.0, forbids commercial" in error


def test_a_restricting_licence_is_red(restricted, monkeypatch):
    shown = io.StringIO()
    console = SafeConsole(file=shown, force_terminal=True, color_system="standard", width=300)
    monkeypatch.setattr(models, "OUTPUT", console)
    assert run(["models"]) == 0
    assert "\x1b[1;31mCC-BY-NC-4.0" in shown.getvalue()
    assert "31mApache" not in shown.getvalue()
    for family in ("SAM-HQ", "SAM 2.1", "EdgeTAM", "MobileSAM"):
        assert f" {family} " in shown.getvalue()


@pytest.mark.parametrize(
    ("card", "licence"),
    [
        ("---\nlicense: agpl-3.0\ntags:\n- x\n---\n# A model\n", "agpl-3.0"),
        ("---\r\ntags: x\r\nlicense: 'cc-by-nc-4.0'\r\n---\r\n", "cc-by-nc-4.0"),
        ("---\nlicense:\n- gpl-3.0\n---\n", "gpl-3.0"),
        ("---\nlicense: other\nlicense_name: s-lab-license-1.0\nlicense_link: LICENSE\n---\n", "s-lab-license-1.0"),
        ("---\nlicense: other\n---\n", ""),
        ("---\ntags: x\n---\nlicense: agpl-3.0\n", ""),
        ("license: agpl-3.0\n", ""),
        ("", ""),
    ],
)
def test_a_card_states_a_licence_in_its_front_matter(card, licence):
    assert licence_in_card(card) == licence


def test_a_restricted_repository_is_fetched_only_after_it_was_accepted(hub, monkeypatch):
    folder = cached_repository(hub, "someone/sam")
    (folder / "README.md").write_text("---\nlicense: agpl-3.0\n---\n")
    source = parse_source("hf:someone/sam")
    with pytest.raises(UsageError, match=r"hf:someone/sam, agpl-3\.0, asks for source code: read it \(https://hugg"):
        read_checkpoint(source)
    with monkeypatch.context() as patched:
        patched.setenv(ACCEPT_VARIABLE, "1")
        with pytest.raises(CheckpointError, match="cannot be reached"):  # it goes on to fetch
            read_checkpoint(source)
    torch.save(VARIANTS["nano"]().state_dict(), folder / "model.safetensors")  # whatever a file is called
    loaded = load_sam("auto", source)  # it is in the cache, so it was accepted
    assert (loaded.variant, loaded.licence) == ("nano", "agpl-3.0")


@pytest.mark.parametrize("card", [None, "---\nlicense: mit\n---\n"])
def test_a_repository_without_a_restriction_is_not_asked_about(hub, card):
    folder = cached_repository(hub, "someone/sam")
    if card is not None:
        (folder / "README.md").write_text(card)
    with pytest.raises(CheckpointError, match="cannot be reached"):
        read_checkpoint(parse_source("hf:someone/sam"))
    torch.save(VARIANTS["nano"]().state_dict(), folder / "nano.pth")
    loaded = load_sam("auto", parse_source("hf:someone/sam/nano.pth"))
    assert loaded.licence == ("NOASSERTION" if card is None else "mit")


def test_the_card_of_a_repository_is_read_once(hub, monkeypatch):
    """Before the first file that is not in the cache, and for the model's licence."""
    folder = cached_repository(hub, "someone/sam")
    (folder / "README.md").write_text("---\nlicense: mit\n---\n")
    torch.save(VARIANTS["nano"]().state_dict(), folder / "pytorch_model.bin")
    asked, real = [], huggingface_hub.hf_hub_download

    def recorded(repository: str, name: str, revision: str | None = None) -> str:
        asked.append(name)
        return real(repository, name, revision=revision)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", recorded)
    assert load_sam("auto", parse_source("hf:someone/sam")).licence == "mit"
    assert (asked[0], asked[-1], asked.count("README.md")) == ("README.md", "pytorch_model.bin", 1)
