"""Weights on the Hugging Face Hub, through the cache of `huggingface_hub`: `hf:OWNER/NAME[/FILE][@REVISION]`.

Before a file is downloaded, the repository's card is read for its licence: one that restricts more than credit must
have been accepted (`licences`). Nothing is asked about a repository without a card, or whose card states no licence.

`HF_HOME`, `HF_HUB_OFFLINE`, `HF_TOKEN` and `HF_ENDPOINT` work as in every program that uses that package. Without a
network, what its cache holds is used.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from sam_edge_runtime.errors import CheckpointError, UsageError, first_line, short_name

from .licences import licence_in_card, require_accepted

PREFIX = "hf:"
CARD = "README.md"
LONGEST_CARD = 1 << 20  # bytes
_PART = r"[A-Za-z0-9_][A-Za-z0-9._-]{0,95}"
_FORM = re.compile(rf"(?P<repository>{_PART}/{_PART})(?P<file>(/{_PART})+)?(@(?P<revision>[A-Za-z0-9._/-]{{1,100}}))?")


@dataclass(frozen=True)
class HubAddress:
    """A repository on the Hub, or one file in it.

    Attributes:
        repository: `OWNER/NAME`.
        file: path of a file in it; None: the files of weights are found by their usual names.
        revision: branch, tag or commit; None: the default branch.
    """

    repository: str
    file: str | None = None
    revision: str | None = None

    def __str__(self) -> str:
        """As `--checkpoint` takes it."""
        file = f"/{self.file}" if self.file else ""
        return f"{PREFIX}{self.repository}{file}" + (f"@{self.revision}" if self.revision else "")


def parse_address(text: str) -> HubAddress:
    """The address after `hf:`.

    Raises:
        UsageError: it is no `OWNER/NAME`.
    """
    found = _FORM.fullmatch(text.removeprefix(PREFIX))
    if found is None:
        raise UsageError(
            f"{text!r:.120} is no repository: write hf:OWNER/NAME such as hf:facebook/sam-vit-base, with /FILE or "
            "@REVISION behind it if need be"
        )
    file = found["file"]
    return HubAddress(found["repository"], file.removeprefix("/") if file else None, found["revision"])


class Repository:
    """The repository that an address names, through the cache. Its card is read once."""

    def __init__(self, address: HubAddress) -> None:
        self.address = address

    def fetch(self, names: Iterable[str]) -> Path | None:
        """The first of the files `names` that the repository has, in the cache; it is downloaded if it is not there.

        Returns:
            Its path in the cache, beside those of the same revision; None if the repository has none of them.

        Raises:
            CheckpointError: no such repository or revision, no access, or the Hub cannot be reached and none of the
                files is in the cache.
            UsageError: huggingface_hub is not installed, or the licence in the repository's card restricts more than
                credit and was not accepted, and none of the files is in the cache.
        """
        address = self.address
        try:
            # Imported here: it takes a while, and only this address needs it.
            import huggingface_hub  # noqa: PLC0415
            from huggingface_hub import errors  # noqa: PLC0415
        except ImportError as error:
            raise UsageError(
                f"{address} needs {error.name or error}: pip install 'sam-edge[download]', or name a file"
            ) from error
        unreachable: Exception | None = None
        for name in names:
            if name != CARD and not _is_cached(address, name):
                require_accepted(str(address), self.licence, f"https://huggingface.co/{address.repository}")
            try:
                path = huggingface_hub.hf_hub_download(address.repository, name, revision=address.revision)
                return Path(path)
            except errors.LocalEntryNotFoundError as error:  # offline, and this file is not in the cache
                unreachable = error
            except errors.EntryNotFoundError:
                continue
            except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError, errors.HFValidationError) as error:
                raise CheckpointError(
                    f"there is no {address} on the Hugging Face Hub, or it needs a login: check the name, or set "
                    "HF_TOKEN"
                ) from error
            except Exception as error:  # the network, the disk or the Hub: many classes of several packages
                raise CheckpointError(
                    f"{address} was not downloaded ({short_name(first_line(error))}): try again, or name a file"
                ) from error
        if unreachable is not None:
            raise CheckpointError(
                f"{address} is not in the cache, and the Hugging Face Hub cannot be reached (offline): download it "
                "where there is a network (`hf download " + address.repository + "`), or name a file with --checkpoint"
            ) from unreachable
        return None

    @cached_property
    def licence(self) -> str:
        """The licence that the card states; empty if it states none, there is no card, or it cannot be reached."""
        try:
            path = self.fetch([CARD])
        except CheckpointError:
            return ""
        if path is None or path.stat().st_size > LONGEST_CARD:
            return ""
        return licence_in_card(path.read_text("utf-8", errors="replace"))


def _is_cached(address: HubAddress, name: str) -> bool:
    """Whether the cache knows a file, or that there is none: whoever fetched it was asked for the licence."""
    import huggingface_hub  # noqa: PLC0415

    return huggingface_hub.try_to_load_from_cache(address.repository, name, revision=address.revision) is not None
