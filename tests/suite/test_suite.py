"""Suites: their recipe, their division, a run that is resumed, processes, hosts, and the page."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from sam_edge.cli.app import run
from sam_edge.suite.cells import divide
from sam_edge.suite.page import SECTIONS
from sam_edge.suite.recipe import Suite, SuiteData, SuiteModel, read_suite
from sam_edge.suite.references import REFERENCES
from sam_edge_runtime.errors import UsageError
from tests.data.builders import encoded, picture, record, write_tar

SUITE = """
title = "two sets"
notes = "<i>small</i>"
clicks = 3

[[models]]
model = "nano"
input_side = 256
name = "small nano"

[[data]]
source = "one.tar"
protocols = ["clicks", "instances"]
boxes = "truth"
groups = "groups.csv"

[[data]]
source = "two.tar"
protocols = ["proposals", "clicks"]
points_per_side = 2
name = "second"
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    for name in ("one", "two"):
        masks = np.zeros((2, 90, 120), bool)
        masks[0, 10:60, 20:90] = True
        masks[1, 40:80, 50:110] = True
        files = [(f"{name}.jpg", encoded(picture(1, (90, 120)))), (f"{name}.json", json.dumps(record(masks)).encode())]
        write_tar(folder / f"{name}.tar", files)
    (folder / "one.names.json").write_text(json.dumps({"one": ["cat", "dog"]}))
    (folder / "groups.csv").write_text("photo,mask,kind\none,0,cats\none,1,dogs\n")
    (folder / "suite.toml").write_text(SUITE)
    return folder


def command(data: Path, out: Path, *more: str) -> list[str]:
    return ["evaluate", "--suite", str(data / "suite.toml"), "--out", str(out), *more]


def test_the_tables_of_all_cells_stand_on_one_page_in_the_papers_order(data, tmp_path, capsys):
    out = tmp_path / "out"
    assert run(command(data, out)) == 0
    text = capsys.readouterr().out
    order = [text.index(title) for title in ("Points (section 7.1)", "Object proposals", "Instance segmentation")]
    assert order == sorted(order)
    results = json.loads((out / "results.json").read_text())
    assert [each["title"] for each in results["sections"]] == [
        SECTIONS[n] for n in ("clicks", "proposals", "instances")
    ]
    points, proposals, instances = (each["tables"] for each in results["sections"])
    assert points[0]["columns"] == [f"{data.name}/one.tar", "second"]
    assert [each["title"] for each in points[1:]] == [f"by group, {data.name}/one.tar"]
    assert proposals[0]["columns"] == ["second"]
    cells = sorted((out / "cells").iterdir())
    assert [path.name.split("-", 1)[0] for path in cells] == ["000", "001", "002", "003"]
    # The page's figures are those of the cells, and the paper's stand apart.
    report = json.loads((cells[1] / "report.json").read_text())
    assert dict(instances[0]["rows"])["mask AP"] == [f"{100 * report['instances'][0]['refined']['AP']:.1f}"]
    assert instances[0]["published"][0]["cells"]["mask AP"] == "46.5"
    assert not any("ViTDet" in name for table in points + proposals + instances for name in table["columns"])
    page = (out / "suite.html").read_text()
    assert "<i>" not in page
    assert "arXiv 2304.02643, table 4" in page

    # The same command measures nothing again; a cell that is gone is measured alone.
    before = {path.name: (path / "report.json").stat().st_mtime_ns for path in cells}
    shutil.rmtree(cells[2])
    (out / "suite.html").unlink()
    assert run(command(data, out, "--processes", "2")) == 0
    after = {path.name: (path / "report.json").stat().st_mtime_ns for path in sorted((out / "cells").iterdir())}
    assert [name for name in before if before[name] != after[name]] == [cells[2].name]
    assert "seconds a photo" in (out / "suite.html").read_text()

    # Other settings do not mix with these.
    changed = data / "changed.toml"
    changed.write_text(SUITE.replace("clicks = 3", "clicks = 4"))
    assert run(["evaluate", "--suite", str(changed), "--data", str(data), "--out", str(out)]) == 2
    assert "another suite, which differs in clicks" in capsys.readouterr().err


def test_hosts_share_the_cells_and_the_last_one_writes_the_page(data, tmp_path, capsys, monkeypatch):
    out = tmp_path / "out"
    small = data / "small.toml"
    small.write_text(
        '[[models]]\nmodel = "nano"\ninput_side = 256\n[[data]]\nsource = "one.tar"\nprotocols = ["box", "clicks"]\n'
    )
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank in (1, 0):
        monkeypatch.setenv("RANK", str(rank))
        assert run(["evaluate", "--suite", str(small), "--out", str(out)]) == 0
        assert len(list((out / "cells").iterdir())) == 2 - rank
        assert (out / "suite.html").exists() == (rank == 0)
    assert "other hosts are at work" in capsys.readouterr().err


def test_a_cell_that_fails_is_named_and_the_others_are_kept(data, tmp_path, capsys):
    out = tmp_path / "out"
    failing = data / "failing.toml"
    tables = '[[models]]\nmodel = "nano"\ninput_side = 256\n[[data]]\nsource = "two.tar"\nboxes = "truth"\n'
    failing.write_text(tables + 'protocols = ["instances", "box"]\n')
    assert run(["evaluate", "--suite", str(failing), "--out", str(out)]) == 2
    said = capsys.readouterr()
    assert "000-" in said.err
    assert "two.names.json" in said.err
    assert "1 of 2 cells could not be measured" in said.err
    assert "box: single mask" in said.out
    assert json.loads((out / "results.json").read_text())["missing"][0].startswith("000-")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("clicks = [", "is no TOML"),
        ("", r"no \[\[models\]\]"),
        ('[[models]]\nmodel = "nano"\n', r"no \[\[data\]\]"),
        ('models = "nano"\n', r"each begun with \[\[models\]\]"),
        ('[[models]]\nvariant = "nano"\n', "'variant' is unknown"),
        ("[[models]]\n", "either model"),
        ('[[models]]\nbundle = "b"\ncheckpoint = "c"\n', "has its own weights"),
        ('[[data]]\nprotocols = ["box"]\n', "has no source"),
        ('[[data]]\nsource = "a"\nprotocols = "box"\n', "is no list of texts"),
        ('[[data]]\nsource = "a"\nprotocols = ["points"]\n', "'points' of a is unknown"),
        ('[[data]]\nsource = "a"\nprotocols = []\n', "no protocols"),
        ("clicks = true\n", "clicks = True is no integer"),
        ('rounds = 3\n[[models]]\nmodel = "nano"\n', "'rounds' is unknown"),
        ('first_point = "x"\n[[models]]\nmodel = "nano"\n[[data]]\nsource = "a"\nprotocols = ["box"]\n', "choose from"),
    ],
)
def test_recipes_are_checked(text, says, tmp_path):
    (tmp_path / "suite.toml").write_text(text)
    with pytest.raises(UsageError, match=says):
        read_suite(tmp_path / "suite.toml")


def test_cells_are_jobs_with_the_options_of_their_protocol(tmp_path):
    data = SuiteData("a.tar", ("clicks", "instances", "automatic"), boxes="b.json", groups="g.csv", points_per_side=8)
    suite = Suite((SuiteModel("nano"), SuiteModel(bundle="phone/nano")), (data,), limit=5, grabcut=True)
    cells = divide(suite, tmp_path, tmp_path / "out")
    assert len(cells) == 6
    clicks, other, instances, _, automatic, _ = (cell.job for cell in cells)
    assert (clicks.grabcut, other.grabcut, other.bundles) == (True, False, (Path("phone/nano"),))
    assert (clicks.groups, clicks.boxes) == (tmp_path / "g.csv", None)
    assert (instances.boxes, instances.groups, instances.settings) == (str(tmp_path / "b.json"), None, {})
    assert automatic.settings == {"points_per_side": 8}
    assert all(job.limit == 5 for job in (clicks, other, instances, automatic))
    with pytest.raises(UsageError, match="needs --boxes"):
        divide(Suite((SuiteModel("nano"),), (SuiteData("a", ("instances",)),)), tmp_path, tmp_path)


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (("--clicks", "3"), "--clicks cannot be given beside --suite"),
        (("--data", "a", "--data", "b"), "given 2 times"),
        (("--processes", "0"), "--processes 0"),
        (("--data", "elsewhere"), "no data at elsewhere/one.tar"),
    ],
)
def test_bad_input_gives_one_line(more, says, data, tmp_path, capsys):
    assert run(command(data, tmp_path / "out", *more)) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert len(lines) == 1
    assert says in lines[0]
    assert not (tmp_path / "out").exists()


def test_published_figures_have_the_names_of_our_rows():
    """By the report of a run: a name that no table has would stand alone."""
    from sam_edge.evaluation.edges import EdgeFigures, edge_rows
    from sam_edge.evaluation.instances import InstanceFigures, instance_rows
    from sam_edge.evaluation.proposals import ProposalFigures, proposal_rows

    ap = dict.fromkeys(("AP", "AP50", "AP75", "AP small", "AP medium", "AP large"), 0.5)
    ar = dict.fromkeys(("all", "small", "medium", "large", "frequent", "common", "rare"), 0.5)
    rows = {
        "edges": edge_rows([EdgeFigures("", "", 1, 0.5, 0.5, 0.5, 0.5, 0.5)]),
        "instances": instance_rows([InstanceFigures("", "", 1, 1, 1, "COCO", ap, ap, ap)]),
        "proposals": proposal_rows([ProposalFigures("", "", 1, 1, 1.0, ar, 1.0)]),
    }
    assert set(rows) == set(REFERENCES)
    for protocol, references in REFERENCES.items():
        for reference in references:
            assert set(reference.cells) <= {name for name, _ in rows[protocol]}
