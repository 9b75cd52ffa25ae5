"""Edges from automatic masks, on BSDS500: the zero-shot edge detection of "Segment Anything" (appendix D.2).

A grid of 16 x 16 clicks gives three masks each, filtered by non-maximum suppression only. The edge map is Sobel's
gradient of each mask's probabilities along the mask's outer boundary, the largest over all masks, scaled to 0..1 and
thinned. Its pixels are matched with those that each annotator drew, as in the benchmark (Martin et al., PAMI 2004;
Arbelaez et al., PAMI 2011): one to one, within 0.0075 of the photo's diagonal, as many pairs as possible. A predicted
pixel is right if it matches any annotator; recall is over the pixels of all annotators. ODS uses one threshold for all
photos, OIS the best one for each; AP is the area under precision against recall.

Thinning is Canny's: a pixel stays if no neighbour across its edge exceeds it. The benchmark's own code thins once more
by morphology, which hardly changes such a map. The layout is that of BSDS500's release: `images/SPLIT/*.jpg` beside
`groundTruth/SPLIT/*.mat`, in which cells of structures hold `Boundaries` (H, W).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sam_edge_runtime.arrays import Float32, Float64, Mask, Photo
from sam_edge_runtime.automatic.generator import AutomaticMaskGenerator
from sam_edge_runtime.automatic.settings import AutomaticSettings
from sam_edge_runtime.errors import DataError
from sam_edge_runtime.photo.masks import upscale
from sam_edge_runtime.photo.read import read_photo

POINTS = 16
EDGE_SETTINGS = AutomaticSettings(
    points_per_side=POINTS, pred_iou_thresh=0.0, stability_score_thresh=0.0, box_nms_thresh=0.7
)
TOLERANCE = 0.0075  # of the diagonal
THRESHOLDS = np.arange(1, 100) / 100


@dataclass(frozen=True)
class EdgePhoto:
    """A photo's file, and the file with the boundaries that its annotators drew."""

    photo: Path
    drawn: Path


@dataclass(frozen=True)
class EdgeSource:
    """A split of BSDS500."""

    name: str
    photos: tuple[EdgePhoto, ...]


@dataclass(frozen=True)
class EdgeFigures:
    """The figures of one split.

    Attributes:
        subject: name of the model or bundle.
        data: the split's name.
        photos: how many were measured.
        ods: F-measure at the threshold that is best for all photos together.
        ods_threshold: that threshold, 0..1.
        ois: F-measure at the best threshold of each photo.
        ap: area under precision against recall.
        r50: the largest recall with a precision of 50 % or more; 0 if there is none.
    """

    subject: str
    data: str
    photos: int
    ods: float
    ods_threshold: float
    ois: float
    ap: float
    r50: float

    def to_json(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def open_edges(what: str) -> EdgeSource:
    """A split of BSDS500: `.../images/SPLIT`, or `test` of a folder that holds `images` and `groundTruth`.

    Raises:
        DataError: the folder has another layout, or the ground truth of a photo is missing.
    """
    path = Path(what).expanduser()
    images = path / "images" / "test" if (path / "images").is_dir() else path
    drawings = images.parent.parent / "groundTruth" / images.name
    photos = sorted(images.glob("*.jpg")) if images.is_dir() else []
    if not photos or not drawings.is_dir():
        raise DataError(
            f"{what} is not laid out as BSDS500: name the folder that holds images/test and groundTruth/test, or "
            "images/SPLIT"
        )
    pairs = tuple(EdgePhoto(photo, drawings / f"{photo.stem}.mat") for photo in photos)
    missing = [pair.drawn for pair in pairs if not pair.drawn.is_file()]
    if missing:
        raise DataError(
            f"the ground truth of {len(missing)} of {len(pairs)} photos of {what} is missing, such as {missing[0]}"
        )
    return EdgeSource(str(images), pairs)


def read_drawn(path: Path) -> list[Mask]:
    """The boundary pixels that each annotator drew: masks `(H, W)`.

    Raises:
        DataError: the file does not hold ground truth as BSDS500's.
    """
    from scipy.io import loadmat  # noqa: PLC0415 - an extra

    try:
        cells = loadmat(path)["groundTruth"].ravel()
        return [np.asarray(cell["Boundaries"][0, 0]) > 0 for cell in cells]
    except Exception as error:
        raise DataError(f"{path} is not ground truth of BSDS500 ({error}): fetch it again") from error


def measure_edges(
    subject: str,
    source: EdgeSource,
    generator: AutomaticMaskGenerator,
    limit: int | None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> EdgeFigures:
    """The figures of a split.

    Raises:
        DataError: a ground truth is damaged, or of another size than its photo.
        PhotoError: a photo is damaged.
    """
    photos = source.photos[:limit]
    counts = []
    for done, pair in enumerate(photos):
        progress(done, len(photos))
        photo, drawn = read_photo(pair.photo), read_drawn(pair.drawn)
        if not drawn or any(each.shape != photo.shape[:2] for each in drawn):
            raise DataError(f"{pair.drawn} and {pair.photo} have different sizes: fetch the data again")
        counts.append(match_counts(edge_map(generator, photo), drawn))
    return edge_figures(subject, _short(source.name), np.stack(counts))


def edge_map(generator: AutomaticMaskGenerator, photo: Photo) -> Float32:
    """Thin edges `(H, W)` from 0 to 1."""
    from scipy import ndimage  # noqa: PLC0415

    strongest = np.zeros(photo.shape[:2], np.float32)
    for logits in _full_size(generator, photo):
        mask = logits > 0
        rim = ndimage.binary_dilation(mask) & ~ndimage.binary_erosion(
            mask, border_value=1
        )  # a pixel on either side of the outline
        probability = 1.0 / (1.0 + np.exp(-np.clip(logits, -30, 30)))
        slope = np.hypot(ndimage.sobel(probability, 0), ndimage.sobel(probability, 1)).astype(np.float32)
        np.maximum(strongest, np.where(rim, slope, 0), out=strongest)
    top = float(strongest.max())
    return thin_edges(strongest / top) if top > 0 else strongest


def thin_edges(edges: Float32) -> Float32:
    """Keep pixels that no neighbour across the edge exceeds; its direction is from the smoothed map's curvature."""
    from scipy import ndimage  # noqa: PLC0415

    smooth = ndimage.gaussian_filter(edges, 2.0)
    dy, dx = np.gradient(smooth)
    dyy, dyx = np.gradient(dy)
    _, dxx = np.gradient(dx)
    # The Hessian's direction of larger curvature: negative on the ridge, positive on its flanks.
    across = 0.5 * np.arctan2(2 * dyx, dxx - dyy) + np.where(dxx + dyy <= 0, np.pi / 2, 0.0)
    y, x = np.mgrid[: edges.shape[0], : edges.shape[1]].astype(np.float64)
    keep = np.ones(edges.shape, np.bool_)
    for step in (-1.0, 1.0):
        beside = ndimage.map_coordinates(edges, [y + step * np.sin(across), x + step * np.cos(across)], order=1)
        keep &= edges * np.float32(1.01) >= beside
    return np.where(keep, edges, 0).astype(np.float32)


def match_counts(edges: Float32, drawn: Sequence[Mask]) -> npt.NDArray[np.int64]:
    """Counts of pixels at each threshold.

    Returns:
        `(T, 4)`: right predicted pixels, predicted pixels, matched drawn pixels, drawn pixels; the last two are summed
        over annotators.
    """
    reach = TOLERANCE * float(np.hypot(*edges.shape))
    rows = []
    for threshold in THRESHOLDS:
        predicted = np.argwhere(edges >= threshold)
        right = np.zeros(len(predicted), np.bool_)
        recalled = 0
        for one in drawn:
            matched = _matched(predicted, np.argwhere(one), reach)
            right |= matched
            recalled += int(matched.sum())
        rows.append((int(right.sum()), len(predicted), recalled, sum(int(one.sum()) for one in drawn)))
    return np.array(rows, np.int64)


def edge_figures(subject: str, data: str, counts: npt.NDArray[np.int64]) -> EdgeFigures:
    """ODS, OIS and AP of counts `(photos, T, 4)`."""
    precision, recall = _precision_recall(counts.sum(axis=0))
    f = _f(precision, recall)
    best = int(f.argmax())
    each = np.stack([_f(*_precision_recall(one)) for one in counts]).argmax(axis=1)
    of_each = counts[np.arange(len(counts)), each].sum(axis=0)
    ois = float(_f(*_precision_recall(of_each[None]))[0])
    order = np.argsort(recall, kind="stable")
    places = np.linspace(0, 1, 101)
    known, first = np.unique(recall[order], return_index=True)
    curve = np.interp(places, known, precision[order][first], left=float(precision[order][0]), right=0.0)
    r50 = float(recall[precision >= 0.5].max(initial=0.0))
    return EdgeFigures(
        subject, data, len(counts), float(f[best]), float(THRESHOLDS[best]), ois, float(curve.mean()), r50
    )


def edge_rows(figures: Sequence[EdgeFigures]) -> list[tuple[str, list[str]]]:
    """The rows of the table: a name, and a cell for each of `figures`."""
    return [
        ("photos", [f"{each.photos}" for each in figures]),
        ("ODS (threshold)", [f"{each.ods:.3f} ({each.ods_threshold:.2f})" for each in figures]),
        ("OIS", [f"{each.ois:.3f}" for each in figures]),
        ("AP", [f"{each.ap:.3f}" for each in figures]),
        ("R50", [f"{each.r50:.3f}" for each in figures]),
    ]


def _full_size(generator: AutomaticMaskGenerator, photo: Photo) -> Iterator[Float32]:
    low_res, frame = generator.low_res_masks(photo)
    for one in low_res:
        yield upscale(one[None], frame)[0]


def _matched(predicted: npt.NDArray[np.int64], drawn: npt.NDArray[np.int64], reach: float) -> Mask:
    """Which predicted pixels `(F, 2)` have a partner among the drawn ones `(D, 2)`, in a maximum matching."""
    from scipy.sparse import csr_matrix  # noqa: PLC0415
    from scipy.sparse.csgraph import maximum_bipartite_matching  # noqa: PLC0415
    from scipy.spatial import cKDTree  # noqa: PLC0415

    if not len(predicted) or not len(drawn):
        return np.zeros(len(predicted), np.bool_)
    pairs = cKDTree(predicted).sparse_distance_matrix(cKDTree(drawn), reach, output_type="coo_matrix")
    near = csr_matrix((np.ones(pairs.nnz, np.int8), (pairs.row, pairs.col)), shape=(len(predicted), len(drawn)))
    matched: Mask = maximum_bipartite_matching(near, perm_type="column") >= 0
    return matched


def _precision_recall(counts: npt.NDArray[np.int64]) -> tuple[Float64, Float64]:
    """Precision and recall `(T)` of counts `(T, 4)`."""
    right, predicted, recalled, drawn = counts.T.astype(np.float64)
    return right / np.maximum(predicted, 1), recalled / np.maximum(drawn, 1)


def _f(precision: Float64, recall: Float64) -> Float64:
    return 2 * precision * recall / np.maximum(precision + recall, 1e-12)


def _short(name: str) -> str:
    return "/".join(Path(name).parts[-2:])
