"""A session of annotation on three photos."""

from __future__ import annotations

import pytest

from sam_edge.serving.job import AnnotationJob

from .builders import Annotating, write_photos


@pytest.fixture
def job(tmp_path) -> AnnotationJob:
    return AnnotationJob(write_photos(tmp_path / "photos", "img_1.jpg", "img_2.png", "img_3.png"), tmp_path / "out")


@pytest.fixture
def session(tmp_path, job):
    session = Annotating(tmp_path, job)
    yield session
    session.close()
