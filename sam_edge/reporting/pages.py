"""HTML templates and plots. Both need extras, which are imported when they are used."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def render(template: Path, **content: Any) -> str:
    """Fill in a template. Values are escaped; a name without a value is an error.

    Raises:
        ImportError: jinja2 is not installed.
    """
    import jinja2  # noqa: PLC0415 - an extra

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(template.parent), autoescape=True, undefined=jinja2.StrictUndefined
    )
    page = environment.get_template(template.name).render(**content)
    # A file's name may hold bytes that are no UTF-8; Python keeps them as lone surrogates, which no page can hold.
    return page.encode("utf-8", "backslashreplace").decode()


def empty_figure(width: float, height: float, dpi: int) -> Any:
    """An empty matplotlib figure, `width` x `height` inches, for drawing without a screen.

    Raises:
        ImportError: matplotlib is not installed.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415 - an extra
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=(width, height), dpi=dpi, layout="constrained")
    FigureCanvasAgg(figure)
    return figure
