"""Figures by group: who or what is served how well ("Segment Anything", arXiv 2304.02643, section 6).

A CSV file says to which group each photo or mask belongs, in as many respects as it has columns:

    photo,mask,age,setting
    sa_12,0,older,indoors
    sa_12,1,,indoors

`photo` is the record's key or the photo's file name. `mask` counts the record's masks that are not empty, from 0; a
file without that column is about whole photos. An empty cell belongs to no group.

For each group: mIoU after 1 and 3 points, with a 95 % interval from a bootstrap over photos.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from sam_edge_runtime.errors import DataError
from sam_edge_runtime.photo.formats import PHOTO_ENDINGS
from sam_edge_runtime.system.text import read_text

from .against import points_name
from .measure import PhotoMeasurement
from .paired import MeanInterval, mean_interval

PHOTO, MASK = "photo", "mask"
POINTS = (1, 3)
LEAST_CLICKS = max(POINTS)
MEANING = (
    "Such a table says how well this model segments these masks, grouped as the file says. It cannot say why groups "
    "differ: size, place, light and the annotators' habits differ with them. Overlapping intervals do not show that "
    "groups are served alike, and of many groups compared some will differ by chance."
)
Key = tuple[str, int | None]


@dataclass(frozen=True)
class GroupFigures:
    """The figures of one group.

    Attributes:
        respect: the column's name.
        group: the group's.
        points: mIoU after each number of `POINTS`.
    """

    respect: str
    group: str
    points: tuple[MeanInterval, ...]


@dataclass(frozen=True)
class GroupedFigures:
    """The figures of one data source by group.

    Attributes:
        subject: name of the model or bundle.
        data: the source's name.
        groups: sorted by respect, as in the file, and by group.
        without: number of masks that the file puts into no group.
    """

    subject: str
    data: str
    groups: tuple[GroupFigures, ...]
    without: int

    def to_json(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


class Groups:
    """What a file of groups says.

    Attributes:
        respects: the names of its columns, without `photo` and `mask`.
    """

    def __init__(self, path: Path) -> None:
        """Read a CSV file.

        Raises:
            DataError: it cannot be read, has no such columns, or says two things about one photo or mask.
        """
        self._path = path
        try:
            reader = csv.DictReader(io.StringIO(read_text(path)), strict=True)
            header = [(name or "").strip() for name in reader.fieldnames or ()]
            reader.fieldnames = header
            rows = list(reader)
        except OSError as error:
            raise DataError(f"cannot read the groups {path} ({error.strerror}): check the path") from error
        except (ValueError, csv.Error) as error:
            raise DataError(f"the groups {path} are no CSV ({error}): correct them") from error
        self.respects = tuple(name for name in header if name not in (PHOTO, MASK))
        if PHOTO not in header or not self.respects or "" in header or len(set(header)) < len(header):
            raise DataError(
                f"the groups {path} begin with {','.join(header)!r:.80}: the first line names the columns, such as "
                f"{PHOTO},group or {PHOTO},{MASK},group"
            )
        self._groups: dict[Key, Mapping[str, str]] = {}
        for number, row in enumerate(rows, 2):
            key = self._key(row, MASK in header, number)
            if key in self._groups:
                raise DataError(f"line {number} of {path} is about {row[PHOTO]!r:.80} again: one line for each")
            self._groups[key] = {respect: (row[respect] or "").strip() for respect in self.respects}

    def of(self, photo: str, mask: int, respect: str) -> str:
        """The group of a mask, or an empty text."""
        name = PurePosixPath(photo).name
        for key in ((photo, mask), (photo, None), (name, mask), (name, None)):
            if key in self._groups:
                return self._groups[key][respect]
        return ""

    def _key(self, row: Mapping[Any, Any], masks: bool, number: int) -> Key:
        if None in row or any(row[name] is None for name in row):
            raise DataError(f"line {number} of {self._path} has another number of cells than the first line")
        photo = row[PHOTO].strip()
        path = PurePosixPath(photo)
        photo = str(path.with_suffix("")) if path.suffix.lower() in PHOTO_ENDINGS else photo
        mask = row[MASK].strip() if masks else ""
        if not photo or not (mask == "" or (mask.isascii() and mask.isdigit())):
            raise DataError(f"line {number} of {self._path} names {photo!r:.60}, mask {mask!r:.20}: a key and a number")
        return photo, int(mask) if mask else None


def grouped_figures(subject: str, data: str, photos: Sequence[PhotoMeasurement], groups: Groups) -> GroupedFigures:
    """The figures of a source by group; the measurements have at least `LEAST_CLICKS` clicks.

    Raises:
        DataError: the file puts none of the masks into a group.
    """
    found = [
        GroupFigures(respect, group, tuple(mean_interval(list(_scores(photos, members, count))) for count in POINTS))
        for respect in groups.respects
        for group, members in sorted(_members(photos, groups, respect).items())
    ]
    if not found:
        raise DataError(
            f"the groups name none of the photos of {data}, such as {photos[0].key!r:.80}: write its records' keys"
        )
    grouped = [
        any(groups.of(photo.key, mask, respect) for respect in groups.respects)
        for photo in photos
        for mask in range(len(photo.areas))
    ]
    return GroupedFigures(subject, data, tuple(found), len(grouped) - sum(grouped))


def group_table(figures: GroupedFigures, column: str) -> tuple[str, list[str], list[tuple[str, list[str]]]]:
    """A table: its title, the names of the columns, and the rows."""
    rows = [
        (
            f"{each.respect}: {each.group}",
            [f"{each.points[0].photos} / {each.points[0].prompts}", *map(_interval, each.points)],
        )
        for each in figures.groups
    ]
    if figures.without:
        rows.append(("in no group", [f"{figures.without} masks", *[""] * len(POINTS)]))
    return f"by group, {column}", ["photos / masks", *(f"mIoU, {points_name(each)} [95 %]" for each in POINTS)], rows


def _interval(value: MeanInterval) -> str:
    ends = "too few photos" if value.low is None or value.high is None else f"{value.low:.3f}, {value.high:.3f}"
    return f"{value.mean:.3f} [{ends}]"


def _members(photos: Sequence[PhotoMeasurement], groups: Groups, respect: str) -> dict[str, list[list[int]]]:
    """For each group of a respect the masks of every photo that belong to it."""
    members: dict[str, list[list[int]]] = {}
    for place, photo in enumerate(photos):
        for mask in range(len(photo.areas)):
            group = groups.of(photo.key, mask, respect)
            if group:
                members.setdefault(group, [[] for _ in photos])[place].append(mask)
    return members


def _scores(photos: Sequence[PhotoMeasurement], members: list[list[int]], count: int) -> Iterator[Any]:
    for photo, masks in zip(photos, members, strict=True):
        if masks:
            yield np.asarray(photo.shown[count - 1][masks])
