"""Pages hold what files say, and obey none of it."""

from __future__ import annotations

from sam_edge.reporting.pages import render


def test_names_are_escaped_and_need_not_be_text(tmp_path):
    template = tmp_path / "page.html.j2"
    template.write_text("<p>{{ name }}</p>")
    page = render(template, name="<script>\udcff\x1b")
    assert page == "<p>&lt;script&gt;\\udcff\x1b</p>"
    page.encode("utf-8")
