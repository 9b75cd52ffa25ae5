"""Where photos come from: tar shards, lists, picture files."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image

from tests.fuzz import mutations as mutate
from tests.fuzz.surfaces.inputs import Attempt, saved, small_photo, small_record


def shard(folder: Path) -> Attempt:
    """Tar shards: headers, names, members."""
    from sam_edge.data.sources import open_source

    photo, path = saved(small_photo(), "JPEG"), folder / "shard.tar"
    record_text = json.dumps(small_record()).encode()

    def written(rng: np.random.Generator | None) -> bytes:
        file = io.BytesIO()
        kinds = [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]
        with tarfile.open(fileobj=file, mode="w", format=kinds[rng.integers(3)] if rng else kinds[0]) as shard:
            for number in range(3):
                for ending, data in ((".jpg", photo), (".json", record_text)):
                    info = tarfile.TarInfo(f"sa_{number}{ending}")
                    if rng is not None and rng.integers(3) == 0:
                        name = str(mutate.values(rng)).replace("\x00", "")[:4000]
                        info.name = name.encode("utf-8", "replace").decode() + ending
                        info.type = [tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.FIFOTYPE, b"?"][rng.integers(4)]
                        info.linkname = "/etc/passwd"
                    info.size = len(data)
                    shard.addfile(info, io.BytesIO(data))
        return file.getvalue()

    whole = written(None)

    def attempt(rng: np.random.Generator) -> None:
        try:
            path.write_bytes(written(rng) if rng.integers(2) else mutate.content(rng, whole))
        except ValueError:  # a name that the tar's format cannot hold, so nobody reads it
            return
        source = open_source(path)
        for number in range(len(source)):
            source.record_name(number)
            source.read(number)

    return attempt


def photo_list(folder: Path) -> Attempt:
    """A `.txt` list of photos."""
    from sam_edge.data.sources import open_source

    (folder / "a.jpg").write_bytes(saved(small_photo(), "JPEG"))
    path = folder / "list.txt"

    def attempt(rng: np.random.Generator) -> None:
        lines = ["a.jpg", "# comment", str(mutate.values(rng))]
        text = "\n".join(lines).encode("utf-8", "surrogatepass")
        path.write_bytes(mutate.content(rng, text) if rng.integers(2) else text)
        source = open_source(path)
        for number in range(len(source)):
            source.record_name(number)
            source.read(number)

    return attempt


def photo(folder: Path) -> Attempt:
    """Picture files of every format that photos come in."""
    from sam_edge_runtime.photo.read import decode_photo, read_photo

    image = small_photo()
    exif = Image.Exif()
    exif[0x0112] = 6
    files = {
        "jpg": saved(image, "JPEG", exif=exif),
        "progressive.jpg": saved(image, "JPEG", progressive=True),
        "png": saved(image, "PNG"),
        "16.png": saved(Image.fromarray(np.arange(1200, dtype=np.uint16).reshape(30, 40)), "PNG"),
        "palette.png": saved(image.quantize(16), "PNG"),
        "gif": saved(image.quantize(16), "GIF"),
        "bmp": saved(image, "BMP"),
        "ppm": saved(image, "PPM"),
        "tif": saved(image, "TIFF"),
        "lzw.tif": saved(image, "TIFF", compression="tiff_lzw"),
        "webp": saved(image, "WEBP"),
        "jp2": saved(image, "JPEG2000"),
    }
    names = list(files)

    def attempt(rng: np.random.Generator) -> None:
        name = names[rng.integers(len(names))]
        data = mutate.content(rng, files[name])
        if rng.integers(2):
            decode_photo(data, name)
        else:
            (folder / name).write_bytes(data)
            read_photo(folder / name)

    return attempt
