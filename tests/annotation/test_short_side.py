"""Photos made smaller as SA-1B's: sizes, masks and points, and the same shards from `annotate`."""

from __future__ import annotations

import json

import numpy as np
import pytest

from sam_edge.annotation.annotate import AnnotateJob, annotate
from sam_edge.annotation.short_side import shrunk
from sam_edge.data.skips import SkipLog
from sam_edge.data.sources import open_source
from sam_edge.data.stream import walk
from sam_edge_runtime.errors import OutputError, UsageError
from sam_edge_runtime.photo.read import read_size
from tests.data.builders import encoded, exif_of, record, write_folder, write_tar
from tests.engine.scenes import SIZE, scene
from tests.runtime.standin import write_onnx_bundle


@pytest.fixture
def shard(tmp_path):
    photo, masks = scene(1)
    turned = np.rot90(photo, 1)  # orientation 6 turns it back
    small = encoded(photo[:40, :50])
    return write_tar(
        tmp_path / "in.tar",
        [
            ("a.jpg", encoded(photo, quality=95)),
            ("a.json", json.dumps(record(masks)).encode()),
            ("b.jpg", encoded(turned, exif=exif_of(6))),
            ("b.json", json.dumps(record(masks)).encode()),
            ("c.jpg", small),
            ("c.json", json.dumps(record(masks[:, :40, :50])).encode()),
        ],
    )


def test_photos_and_masks_get_smaller_together(shard):
    source = shrunk(open_source(shard), 72)
    whole = {sample.key: sample for sample in walk(open_source(shard), SkipLog())}
    for number in range(2):
        raw = source.read(number)
        assert read_size(raw.photo) == (72, 96)
        document = json.loads(raw.record)
        assert document["image"]["height"] == 72
        assert document["annotations"][0]["point_coords"] == [[0.75, 1.25]]
        assert document["annotations"][0]["crop_box"] == [0, 0, 96, 72]
        assert document["annotations"][0]["predicted_iou"] == 0.9
    for sample in walk(source, SkipLog()):
        if sample.key == "c":
            continue
        assert sample.size == (72, 96)
        block = whole[sample.key].masks().reshape(-1, 72, 2, 96, 2).mean(axis=(2, 4))
        assert np.array_equal(sample.masks(), block >= 0.5)
        picture = whole[sample.key].photo.reshape(72, 2, 96, 2, 3).mean(axis=(1, 3))
        assert np.abs(sample.photo - picture).mean() < 12  # another filter, and compressed


def test_smaller_photos_stay_as_they_are(shard):
    source = open_source(shard)
    assert shrunk(source, 72).read(2) == source.read(2)
    assert shrunk(source, SIZE[0]).read(0) == source.read(0)
    assert shrunk(source, None) is source
    with pytest.raises(UsageError, match="--short-side 8 is too small"):
        shrunk(source, 8)


def test_annotate_writes_the_smaller_photos_and_refuses_another_size(shard, tmp_path):
    bundle = write_onnx_bundle(tmp_path / "bundle").root
    settings = {"points_per_side": 4, "pred_iou_thresh": 0.0, "stability_score_thresh": 0.0}
    job = AnnotateJob(str(shard), tmp_path / "out", bundle, settings=settings, short_side=72)
    assert annotate(job).photos == 3
    assert [sample.size for sample in walk(open_source(tmp_path / "out"), SkipLog())] == [(72, 96), (72, 96), (40, 50)]
    with pytest.raises(OutputError, match="short_side is 72 and not 64"):
        annotate(AnnotateJob(str(shard), tmp_path / "out", bundle, settings=settings, short_side=64))


def test_photos_without_masks_get_smaller(tmp_path):
    folder = write_folder(tmp_path / "photos", [("a.jpg", encoded(scene(0)[0]))])
    (sample,) = walk(shrunk(open_source(folder), 72), SkipLog())
    assert sample.size == (72, 96)
