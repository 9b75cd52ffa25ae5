"""How the simulated annotator works, and how many seconds each action takes. The seconds are counted, never waited for.

The paper ("Segment Anything", https://arxiv.org/abs/2304.02643, section 4) gives means of whole masks. The seconds of
single actions are chosen to agree with them:

| stage in the paper | seconds a mask | here |
|---|---|---|
| assisted-manual, at the start | 34 | 3 to find the object, 5 clicks of 2 and 21 with the brush |
| assisted-manual, at the end | 14 | between 5 (one click is enough) and 34 |
| semi-automatic | 34, as the objects left are harder | 20 more to find one: 14 + 20 |

From the paper are also the order of prominence, and that annotators were to go on to the next photo when a mask took
more than 30 seconds. A mask is accepted from an IoU of 0.90 on, as 94 % of SA-1B's masks agree with what professionals
made of them (section 5). The model learns from what is accepted, so this is about as good as it becomes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from sam_edge_runtime.errors import UsageError

SIMULATED, PAGE = KINDS = ("simulated", "page")
FIND, FIND_MORE, CLICK, BRUSH = 3.0, 23.0, 2.0, 21.0  # seconds
PATIENCE = 30.0  # seconds
ACCEPTED = 0.9  # IoU
MOST_CLICKS = 5
JITTER, MISSED = 0.05, 0.05


@dataclass(frozen=True)
class Habits:
    """Who annotates; all but `kind` is for the simulated annotator.

    Attributes:
        kind: `simulated`, or `page` for people on the page of the annotation server.
        find: seconds to find an object and choose it.
        find_more: the same in the semi-automatic stage, where prominent objects have masks already.
        click: seconds of a click.
        brush: seconds of a correction with brush and eraser, which gives the true mask.
        patience: seconds of clicks and brush on one mask, after which the annotator goes on to the next photo.
        most_clicks: clicks before the brush.
        accepted: IoU with the true mask from which a mask is saved as it is.
        jitter: standard deviation of a click, as a share of the square root of the mask's area.
        missed: share of the objects that are overlooked.

    Raises:
        UsageError: a value out of range.
    """

    kind: str = SIMULATED
    find: float = FIND
    find_more: float = FIND_MORE
    click: float = CLICK
    brush: float = BRUSH
    patience: float = PATIENCE
    most_clicks: int = MOST_CLICKS
    accepted: float = ACCEPTED
    jitter: float = JITTER
    missed: float = MISSED

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise UsageError(f"no annotator called {self.kind!r:.60}: choose one of {', '.join(KINDS)}")
        for name in ("find", "find_more", "click", "brush", "patience"):
            if not 0 <= getattr(self, name) < math.inf:
                raise UsageError(f"annotator: {name} {getattr(self, name)} is no number of seconds: write 0 or more")
        for name in ("accepted", "jitter", "missed"):
            if not 0 <= getattr(self, name) <= 1:
                raise UsageError(f"annotator: {name} {getattr(self, name)} is out of range: write 0 to 1")
        if self.most_clicks < 1:
            raise UsageError(f"annotator: most_clicks {self.most_clicks} is too few: write at least 1")
