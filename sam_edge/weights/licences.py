"""Licences of weights: which of them restrict more than credit, and whether the user accepted that.

A licence that forbids commercial use, or that asks for source code, binds whoever ships the model in an app. So weights
under one are fetched only after the user said `--accept-licence`. Licences are named as SPDX does
(https://spdx.org/licenses), or as cards on the Hugging Face Hub do, whose names are SPDX's in lower case, and others.
This module imports nothing heavy: listing the models shows licences.
"""

from __future__ import annotations

import os
import re

from sam_edge_runtime.errors import UsageError, short_name

ACCEPT_VARIABLE = "SAM_EDGE_ACCEPT_LICENCE"
ACCEPTED = "1"
NO_COMMERCE = "forbids commercial use"
SOURCE = "asks for source code"
# In names of licences. `nc` is Creative Commons' NonCommercial, `amlr` Apple's research licence, S-Lab's is EdgeSAM's.
_MARKS = {
    NO_COMMERCE: re.compile(r"\bnc\b|non-?commercial|\bresearch\b|\bamlr\b|\bs-?lab\b"),
    SOURCE: re.compile(r"\b([al]?gpl|sspl|mpl|epl|eupl|osl|cddl|cecill)v?(?![a-z])"),
}
_FRONT_MATTER = re.compile(r"\A\ufeff?---[ \t]*\r?\n(.*?)\r?\n---[ \t]*(\r?\n|\Z)", re.DOTALL)
_FIELD = re.compile(r"^(license|license_name):[ \t]*(?:\r?\n[ \t]*-[ \t]*)?(.*?)[ \t]*$", re.MULTILINE)
NO_LICENCE_STATED = "NOASSERTION"  # SPDX's term for an unknown licence
UNNAMED = ("", "other", "unknown")  # a card's `license` that says nothing, or leaves it to `license_name`


def restriction(licence: str) -> str | None:
    """What a licence restricts, in a few words; None if it restricts nothing that is known here.

    Args:
        licence: an SPDX identifier or expression such as `MIT OR GPL-3.0-only`, where one of the choices without a
            restriction is enough; or a name on the Hub.
    """
    choices = [_restriction_of_one(each) for each in re.split(r"\s+OR\s+", licence)]
    return None if None in choices else choices[0]


def _restriction_of_one(licence: str) -> str | None:
    return next((kind for kind, marks in _MARKS.items() if marks.search(licence.lower())), None)


def require_accepted(what: str, licence: str, terms: str) -> None:
    """Refuse weights under a restricting licence that the user has not accepted.

    Args:
        what: the weights, for the message.
        licence: as for `restriction`.
        terms: where the licence can be read.

    Raises:
        UsageError: the licence restricts, and was not accepted.
    """
    kind = restriction(licence)
    if kind is not None and os.environ.get(ACCEPT_VARIABLE, "").strip() != ACCEPTED:
        raise UsageError(
            f"the licence of {what}, {short_name(licence)}, {kind}: read it ({terms}), then accept it with "
            f"--accept-licence or {ACCEPT_VARIABLE}={ACCEPTED}"
        )


def licence_in_card(card: str) -> str:
    """The licence that a model card on the Hub states in its front matter (YAML between lines of `---`).

    Args:
        card: text of `README.md`.

    Returns:
        Its `license`, or its `license_name` where that is `other`; empty if the card states none.
    """
    front = _FRONT_MATTER.match(card)
    if front is None:
        return ""
    fields: dict[str, str] = {name: value.strip("\"'[] ") for name, value in _FIELD.findall(front[1])}
    licence = fields.get("license", "")
    if licence.lower() in UNNAMED:
        licence = fields.get("license_name", "")
    return licence
