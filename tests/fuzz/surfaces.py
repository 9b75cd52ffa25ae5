"""What is fuzzed: for each surface a function that makes valid inputs in a folder and returns one that tries mutations.

A surface is a place where the project reads something that it did not write a moment ago: a manifest, a golden test, a
run-length encoding, a record, a tar, a recipe, a photo, a checkpoint, a Core ML package, arguments of the API.
"""

from __future__ import annotations

import contextlib
import io
import json
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tests.fuzz import mutations as mutate

Attempt = Callable[[np.random.Generator], Any]


def _photo(size: tuple[int, int] = (40, 30)) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
    return Image.fromarray(pixels)


def _saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def _record() -> dict[str, Any]:
    from sam_edge_runtime.automatic import rle

    mask = np.zeros((30, 40), np.bool_)
    mask[5:20, 7:30] = True
    return {
        "image": {"image_id": 1, "width": 40, "height": 30, "file_name": "a.jpg"},
        "annotations": [
            {
                "id": 1,
                "segmentation": dict(rle.encode(mask)),
                "bbox": [7.0, 5.0, 22.0, 14.0],
                "area": int(mask.sum()),
                "predicted_iou": 0.9,
                "stability_score": 0.97,
                "crop_box": [0.0, 0.0, 40.0, 30.0],
                "point_coords": [[10.0, 10.0]],
            },
            {"id": 2, "segmentation": {"size": [30, 40], "counts": [600, 100, 500]}, "area": 100},
        ],
    }


def manifest(folder: Path) -> Attempt:
    """`manifest.json` of a bundle, and `report.json` beside it."""
    from sam_edge_runtime.bundle.bundle import Bundle, record_files
    from tests.runtime.standin import manifest as standin

    root = folder / "bundle"
    root.mkdir()
    for name in ("encoder.onnx", "decoder.onnx", "golden.npz"):
        (root / name).write_bytes(name.encode())
    (root / "report.json").write_text('{"passed": true, "figures": {"mask_miou": 1.0}, "graphs": {}}', "utf-8")
    valid = json.loads(standin(prompts=1, points=10, files=record_files(root)).to_json())
    report = json.loads((root / "report.json").read_text("utf-8"))

    def attempt(rng: np.random.Generator) -> None:
        (root / "manifest.json").write_bytes(mutate.json_text(rng, valid))
        if rng.integers(4) == 0:
            (root / "report.json").write_bytes(mutate.json_text(rng, report))
        bundle = Bundle.open(root, check_hashes=False)
        bundle.report()
        assert bundle.manifest.encoder_contract.input_names
        assert bundle.manifest.decoder_contract.input_names

    return attempt


def golden(folder: Path) -> Attempt:
    """Members of `golden.npz`."""
    from sam_edge_runtime.agreement import golden as golden_test
    from tests.runtime.standin import NumpyBackend
    from tests.runtime.standin import manifest as standin

    about = standin(prompts=1, points=10)
    path = folder / "golden.npz"
    golden_test.record(NumpyBackend(), about).save(path)
    with np.load(path, allow_pickle=False) as stored:
        valid = {name: stored[name] for name in stored.files}
    whole = path.read_bytes()

    def attempt(rng: np.random.Generator) -> None:
        match rng.integers(4):
            case 0:
                path.write_bytes(mutate.content(rng, whole))
            case 1:  # members that are no arrays, compressed otherwise, with a header that lies
                kind = int(rng.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]))
                victim = list(valid)[rng.integers(len(valid))]
                with zipfile.ZipFile(path, "w", kind) as archive:
                    for name, array in valid.items():
                        file = io.BytesIO()
                        np.save(file, array)
                        data = file.getvalue()
                        archive.writestr(f"{name}.npy", mutate.content(rng, data) if name == victim else data)
            case _:
                changed = dict(valid)
                name = list(valid)[rng.integers(len(valid))]
                value = mutate.array(rng, valid[name])
                try:
                    np.savez(path, **{**changed, name: value})
                except Exception:  # noqa: BLE001 - numpy cannot write it, so nobody reads it
                    return
        golden_test.Golden.load(path, about)

    return attempt


def run_lengths(folder: Path) -> Attempt:
    """COCO's run-length encodings."""
    from sam_edge_runtime.automatic import rle

    functions = [function for name in ("decode", "area", "to_bbox") if (function := getattr(rle, name, None))]

    def attempt(rng: np.random.Generator) -> None:
        height, width = (int(each) for each in rng.integers(1, 20, 2))
        valid: dict[str, Any] = dict(rle.encode(rng.random((height, width)) < 0.5))
        if rng.integers(2):
            valid["counts"] = rle.decompress(valid["counts"]).tolist()
        if rng.integers(3) == 0 and isinstance(valid["counts"], str):
            valid["counts"] = mutate.content(rng, valid["counts"].encode()).decode("latin-1")
        else:
            valid = mutate.document(rng, valid)
        if rng.integers(8) == 0:
            rle.decompress(mutate.values(rng))
        else:
            functions[rng.integers(len(functions))](valid)

    return attempt


def record(folder: Path) -> Attempt:
    """SA-1B's JSON beside a photo."""
    from sam_edge.data.sa1b import parse_record

    valid = _record()
    return lambda rng: parse_record(mutate.json_text(rng, valid))


def foreign_record(folder: Path) -> Attempt:
    """JSON of other annotation tools beside a photo."""
    from sam_edge.data.sa1b import parse_record
    from tests.data import foreign_documents as tools

    mask = np.zeros(tools.SIZE, np.bool_)
    mask[5:20, 7:30] = True
    corners = [[5.5, 4.25], [30.0, 6.0], [33.75, 22.5], [4.0, 25.0]]
    flat = [value for corner in corners for value in corner]
    size = {"height": tools.HEIGHT, "width": tools.WIDTH}
    holes = tools.figure("polygon", corners, [[[10, 10], [20, 10], [20, 15]]])
    bitmap = {"geometryType": "bitmap", "bitmap": {"data": tools.bitmap(mask), "origin": [0, 0]}}
    layer = {
        "dense_rle": [0, 600, 1, 300, 2, 300],
        "mask_annotation_ids_mapping": {"i": 1, "j": 2},
        "total_pixels": 1200,
    }
    paths = {"paths": [tools.points(corners), tools.points(corners[:3])]}
    polygon = tools.region(name="polygon", all_points_x=flat[::2], all_points_y=flat[1::2])
    round_one = tools.region(name="ellipse", cx=20, cy=15, rx=9, ry=5, theta=0.5)
    shape = {"label": "cat", "shape_type": "polygon", "group_id": None, "points": corners}
    documents: list[Any] = [
        [tools.task(tools.result("polygonlabels", {"points": tools.percent(corners)}))],
        tools.task(
            tools.result("brushlabels", {"format": "rle", "rle": tools.brush(mask)}),
            tools.result("rectanglelabels", {"x": 9, "y": 9, "width": 20, "height": 30, "rotation": 20}),
            tools.result("ellipselabels", {"x": 50, "y": 50, "radiusX": 9, "radiusY": 9}),
        ),
        tools.supervisely(holes, bitmap, tools.figure("rectangle", [[2, 3], [9, 9]])),
        {"_via_img_metadata": {"a": {"filename": "a.jpg", "size": 9, "regions": [polygon, round_one]}}},
        tools.darwin({"name": "cat", "polygon": paths}, {"name": "x", "raster_layer": layer}),
        {
            "image": {**size, "filename": "a.jpg"},
            "annotations": [{"name": "cat", "complex_polygon": {"path": paths["paths"]}}],
        },
        {"images": [{**size, "id": 1}], "annotations": [{"image_id": 1, "segmentation": [flat]}]},
        {
            "shapes": [shape, {**shape, "shape_type": "circle", "points": corners[:2]}],
            "imageHeight": 30,
            "imageWidth": 40,
        },
        {"info": size, "objects": [{"category": "cat", "group": 1, "segmentation": corners}]},
        {
            "image": size,
            "annotations": [{"segmentation": {"rle": [0, 6], "left": 3, "top": 4, "width": 3, "height": 2}}],
        },
    ]
    photo = _saved(_photo(), "JPEG")

    def attempt(rng: np.random.Generator) -> None:
        parse_record(mutate.json_text(rng, documents[rng.integers(len(documents))]), photo)

    return attempt


def shard(folder: Path) -> Attempt:
    """Tar shards: headers, names, members."""
    from sam_edge.data.sources import open_source

    photo, path = _saved(_photo(), "JPEG"), folder / "shard.tar"
    record_text = json.dumps(_record()).encode()

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

    (folder / "a.jpg").write_bytes(_saved(_photo(), "JPEG"))
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


def quantization_recipe(folder: Path) -> Attempt:
    """`recipe.json`."""
    from sam_edge_quant import read_recipe, recipe_named, write_recipe

    path = folder / "recipe.json"
    valid = json.loads(write_recipe(recipe_named("w8a8"), {"tried": [{"mask_miou": 0.98}]}))
    valid["layers"] = {"image_encoder.stem": "w8", "mask_decoder": "fp32"}

    def attempt(rng: np.random.Generator) -> None:
        path.write_bytes(mutate.json_text(rng, valid))
        recipe = read_recipe(path)
        recipe.check_layers(["image_encoder.stem", "mask_decoder.a"])
        recipe.scheme_of("image_encoder.stem")

    return attempt


def training_recipe(folder: Path) -> Attempt:
    """A training recipe in TOML."""
    from sam_edge.training.recipe import read_recipe

    path = folder / "recipe.toml"
    lines = [
        'model = "nano"',
        'data = ["a.tar=0.5", "b.tar"]',
        "seed = 0",
        'loss = "ritm"',
        "learning_rate = 1.5e-3",
        "warm_up = 100",
        "ema = 0.99",
        "[[phases]]",
        "steps = 10",
        "side = 256",
        "photos = 4",
        "masks = 4",
        "interactions = 3",
        "scale = [0.7, 2.6]",
    ]
    literals = [
        "1979-05-27T07:32:00Z",
        "07:32:00",
        "1979-05-27",
        "{a = 1}",
        "[[1]]",
        "[[], 1]",
        "nan",
        "-inf",
        "true",
        "9" * 400,
        "-1",
        "0",
        '""',
        '"\\u001b[2J"',
        "1e400",
        "[" * 2000 + "]" * 2000,
        "0x7fffffffffffffffffff",
        "'''a\nb'''",
    ]

    def attempt(rng: np.random.Generator) -> None:
        changed = list(lines)
        for _ in range(rng.integers(1, 3)):
            place = int(rng.integers(len(changed)))
            key = changed[place].split(" = ")[0]
            match rng.integers(4):
                case 0:
                    del changed[place]
                case 1:
                    changed.insert(place, changed[place])
                case _:
                    changed[place] = f"{key} = {literals[rng.integers(len(literals))]}"
        text = "\n".join(changed).encode()
        path.write_bytes(mutate.content(rng, text) if rng.integers(4) == 0 else text)
        read_recipe(path)

    return attempt


def photo(folder: Path) -> Attempt:
    """Picture files of every format that photos come in."""
    from sam_edge_runtime.photo.read import decode_photo, read_photo

    image = _photo()
    exif = Image.Exif()
    exif[0x0112] = 6
    files = {
        "jpg": _saved(image, "JPEG", exif=exif),
        "progressive.jpg": _saved(image, "JPEG", progressive=True),
        "png": _saved(image, "PNG"),
        "16.png": _saved(Image.fromarray(np.arange(1200, dtype=np.uint16).reshape(30, 40)), "PNG"),
        "palette.png": _saved(image.quantize(16), "PNG"),
        "gif": _saved(image.quantize(16), "GIF"),
        "bmp": _saved(image, "BMP"),
        "ppm": _saved(image, "PPM"),
        "tif": _saved(image, "TIFF"),
        "lzw.tif": _saved(image, "TIFF", compression="tiff_lzw"),
        "webp": _saved(image, "WEBP"),
        "jp2": _saved(image, "JPEG2000"),
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


def checkpoint(folder: Path) -> Attempt:
    """Files of weights: safetensors, torch's zip and its older pickle."""
    import torch
    from safetensors.torch import save

    from sam_edge.weights.recognition import read_checkpoint
    from sam_edge.weights.source import CheckpointSource

    packed = "image_encoder.packed"
    state = {
        "image_encoder.weight": torch.zeros(4, 3, 3, 3),
        "mask_decoder.bias": torch.ones(4),
        packed: torch.ones(4, 2, dtype=torch.int8),
        f"{packed}_scale": torch.ones(4, 1),
    }
    tensors = save(state)
    header = json.loads(tensors[8 : 8 + int.from_bytes(tensors[:8], "little")])
    body = tensors[8 + int.from_bytes(tensors[:8], "little") :]

    def torch_file(content: Any, zipped: bool = True) -> bytes:
        file = io.BytesIO()
        torch.save(content, file, _use_new_zipfile_serialization=zipped)
        return file.getvalue()

    nested: Any = torch.ones(2)
    for _ in range(200):
        nested = {"model": nested}
    wholes = [torch_file(state), torch_file(state, zipped=False), tensors]

    def attempt(rng: np.random.Generator) -> None:
        match rng.integers(4):
            case 0:
                text = mutate.json_text(rng, header)
                data, ending = len(text).to_bytes(8, "little") + text + body, ".safetensors"
            case 1:
                strange = [mutate.values(rng), {"a": mutate.values(rng)}, {1: torch.ones(2)}, nested, [torch.ones(1)]]
                scale = torch.ones([int(n) for n in rng.integers(0, 5, rng.integers(4))])
                strange += [
                    {**state, f"{packed}_scale": scale},
                    {**state, packed: torch.ones(3, dtype=torch.int8)},
                    {"model": state, "epoch": 1},
                ]
                try:
                    data, ending = torch_file(strange[rng.integers(len(strange))]), ".pth"
                except Exception:  # noqa: BLE001 - torch cannot write it, so nobody reads it
                    return
            case _:
                which = int(rng.integers(3))
                data, ending = mutate.content(rng, wholes[which]), ".safetensors" if which == 2 else ".pth"
        path = folder / f"weights{ending}"
        path.write_bytes(data)
        read_checkpoint(CheckpointSource(path=path))

    return attempt


def recognizer(folder: Path) -> Attempt:
    """Names and shapes of tensors, nested dicts, adapters with their configuration, and indices of shards."""
    import torch
    from safetensors.torch import save_file

    from sam_edge.model import VARIANTS
    from sam_edge.weights.adapters import PeftConfig
    from sam_edge.weights.contents import Contents, read_contents
    from sam_edge.weights.families import shapes_of_variant
    from sam_edge.weights.recognition import normalized, recognize

    for variant in VARIANTS:  # kept; else the first case takes the time for all
        shapes_of_variant(variant)
    attention = "blocks.0.attn.qkv"
    names: dict[str, Any] = {
        "image_encoder.pos_embed": (1, 4, 4, 6),
        f"image_encoder.{attention}.weight": (18, 6),
        f"image_encoder.{attention}.qkv_proj.weight": (18, 6),
        f"image_encoder.{attention}.w_a_linear_q.weight": (2, 6),
        f"image_encoder.{attention}.w_b_linear_q.weight": (6, 2),
        "image_encoder.blocks.0.attn.rel_pos_h": (27, 6),
        "image_encoder.blocks.0.mlp.lin1.weight": (24, 6),
        "image_encoder.blocks.0.attn.q.weight": (6, 6),
        "vision_encoder.layers.0.attn.qkv.base_layer.weight": (18, 6),
        "vision_encoder.layers.0.attn.qkv.lora_A.default.weight": (2, 6),
        "vision_encoder.layers.0.attn.qkv.lora_B.default.weight": (18, 2),
        "shared_image_embedding.positional_embedding": (2, 3),
        "prompt_encoder.shared_embedding.positional_embedding": (2, 3),
        "mask_decoder.iou_prediction_head.proj_in.weight": (6, 6),
        "image_encoder.patch_embed.seq.0.c.weight": (32, 3, 3, 3),
        "image_encoder.trunk.pos_embed_window": (1, 6, 8, 8),
        "memory_encoder.out_proj.weight": (6, 6),
        "w_a_000": (2, 6),
    }
    config = {"peft_type": "LORA", "lora_alpha": 4, "r": 2, "base_model_name_or_path": "base"}
    weight_map = {name: f"model-0000{index % 2}.safetensors" for index, name in enumerate(names)}
    index_of = {"metadata": {"total_size": 1}, "weight_map": weight_map}
    model = folder / "model"
    model.mkdir()
    for shard in set(weight_map.values()):
        save_file({name: torch.ones(names[name]) for name in names if weight_map[name] == shard}, model / shard)

    def tensor(rng: np.random.Generator, shape: tuple[int, ...]) -> Any:
        match rng.integers(12):
            case 0:
                return mutate.values(rng)
            case 1:
                return torch.ones([int(n) for n in rng.integers(0, 7, rng.integers(5))])
            case 2:
                return torch.ones(
                    shape, dtype=[torch.int8, torch.complex64, torch.bool, torch.bfloat16][rng.integers(4)]
                )
            case 3:
                return torch.ones(shape, device="meta")
            case 4:
                return torch.ones(shape).to_sparse()
            case _:
                return torch.ones(shape)

    def attempt(rng: np.random.Generator) -> None:
        if rng.integers(4) == 0:
            (model / "model.safetensors.index.json").write_bytes(mutate.json_text(rng, index_of))
            recognize(normalized(read_contents(model), "model"))
            return
        layout = ("image_", "vision_")[rng.integers(2)] if rng.integers(3) else ""
        tree: dict[Any, Any] = {}
        for name, shape in names.items():
            if rng.integers(2) and name.startswith((layout, "prompt", "mask")):
                prefix = ("", "module.", "sam.", "ema.model.", "optimizer.")[
                    rng.integers(5) if rng.integers(4) == 0 else 0
                ]
                tree[prefix + name] = tensor(rng, shape)
        for _ in range(rng.integers(3)):
            key = (
                mutate.values(rng)
                if rng.integers(3) == 0
                else ("model", "state_dict", "ema", "optimizer")[rng.integers(4)]
            )
            tree = {str(key) if rng.integers(2) else 0: tree, "epoch": 3, **(tree if rng.integers(3) == 0 else {})}
        adapter = mutate.document(rng, config) if rng.integers(2) else config
        recognize(normalized(Contents((), tree, PeftConfig.from_json(adapter, "adapter")), "weights.pth"))

    return attempt


def training_state(folder: Path) -> Attempt:
    """A checkpoint of a training run."""
    import torch

    from sam_edge.training.checkpoint import TrainingState, read_training_state, save_state

    tensors = {"a.weight": torch.zeros(3, 2)}
    state = TrainingState(7, {"model": "nano"}, tensors, tensors, {"exp_avg/a.weight": torch.zeros(3, 2)})
    path = save_state(folder, state)
    whole = path.read_bytes()
    size = int.from_bytes(whole[:8], "little")
    header, body = json.loads(whole[8 : 8 + size]), whole[8 + size :]

    def attempt(rng: np.random.Generator) -> None:
        if rng.integers(2):
            text = mutate.json_text(rng, header)
            path.write_bytes(len(text).to_bytes(8, "little") + text + body)
        else:
            meta = dict(header["__metadata__"])
            name = list(meta)[rng.integers(len(meta))]
            try:
                inner = json.loads(meta[name])
            except ValueError:
                inner = meta[name]
            meta[name] = mutate.json_text(rng, inner).decode("latin-1")
            text = json.dumps({**header, "__metadata__": meta}).encode()
            path.write_bytes(len(text).to_bytes(8, "little") + text + body)
        read_training_state(path)

    return attempt


def package(folder: Path) -> Attempt:
    """A Core ML package, read and computed by the evaluator."""
    import shutil

    from sam_edge_runtime.mil import Program, read_package
    from tests.fuzz.packages import small_package

    root = small_package(folder / "small.mlpackage")
    work = folder / "work.mlpackage"
    files = [path.relative_to(root) for path in sorted(root.rglob("*")) if path.is_file()]
    inputs = {"x": np.linspace(-1, 1, 48, dtype=np.float32).reshape(1, 3, 4, 4)}

    def attempt(rng: np.random.Generator) -> None:
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(root, work)
        name = files[rng.integers(len(files))]
        data = (work / name).read_bytes()
        changed = mutate.json_text(rng, json.loads(data)) if name.suffix == ".json" else mutate.content(rng, data)
        (work / name).write_bytes(changed)
        Program(read_package(work)).run(inputs)

    return attempt


def generator_arguments(folder: Path) -> Attempt:
    """Arguments of `AutomaticMaskGenerator` and its grids."""
    from dataclasses import fields

    from sam_edge_runtime.automatic.generator import AutomaticMaskGenerator
    from sam_edge_runtime.automatic.settings import AutomaticSettings
    from tests.runtime.standin import NumpyBackend
    from tests.runtime.standin import manifest as standin

    names = [field.name for field in fields(AutomaticSettings)]
    photo = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)
    grids: list[Any] = [[np.array([[0.5, 0.5]])], [[[0.1, 0.2]]], [np.zeros((0, 2))], [[["a", "b"]]], [None], [[[0.5]]]]
    large: list[Any] = [30_000, 100_000_000, 10**12, 2**63, 1e300]
    most_points = 4096

    def attempt(rng: np.random.Generator) -> None:
        keywords: dict[str, Any] = {"points_per_side": 2}
        for _ in range(rng.integers(1, 3)):
            name = names[rng.integers(len(names))]
            match rng.integers(4):
                case 0:
                    keywords[name] = large[rng.integers(len(large))]
                case 1 if name == "point_grids":
                    keywords |= {"point_grids": grids[rng.integers(len(grids))], "points_per_side": None}
                case _:
                    keywords[name] = mutate.values(rng)
        settings = AutomaticSettings(**keywords)
        generator = AutomaticMaskGenerator.from_backend(NumpyBackend(), standin(), settings)
        if sum(map(len, settings.grids())) <= most_points:  # 255 x 255 points are valid and take too long
            generator.generate(photo)

    return attempt


def predictor_arguments(folder: Path) -> Attempt:
    """Arguments of `SamPredictor`."""
    from sam_edge_runtime.predictor import SamPredictor
    from tests.runtime.standin import write_onnx_bundle

    predictor = SamPredictor(write_onnx_bundle(folder / "bundle"))
    photo = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)
    predictor.set_image(photo)
    valid = {
        "point_coords": np.array([[5.0, 6.0], [20.0, 10.0]]),
        "point_labels": np.array([1, 0]),
        "box": np.array([2.0, 3.0, 30.0, 20.0]),
        "mask_input": np.zeros((1, 64, 64), np.float32),
        "multimask_output": True,
        "return_logits": False,
    }

    def attempt(rng: np.random.Generator) -> None:
        if rng.integers(6) == 0:
            try:
                predictor.set_image(mutate.array(rng, photo))
            finally:
                predictor.set_image(photo)
            return
        keywords: dict[str, Any] = {name: value for name, value in valid.items() if rng.integers(2)}
        names = list(valid)
        name = names[rng.integers(len(names))]
        value = valid[name]
        keywords[name] = mutate.array(rng, value) if isinstance(value, np.ndarray) else mutate.values(rng)
        masks, scores, _ = predictor.predict(**keywords)
        assert masks.shape[1:] == photo.shape[:2]
        assert np.isfinite(scores).all()

    return attempt


def command_line(folder: Path) -> Attempt:
    """Arguments of commands, and names of files."""
    from sam_edge.cli.app import run
    from tests.runtime.standin import write_onnx_bundle

    bundle = folder / "bundle"
    write_onnx_bundle(bundle)
    photo = folder / "photo.jpg"
    photo.write_bytes(_saved(_photo(), "JPEG"))
    commands = {
        "predict": ([str(bundle), str(photo), "--point", "5,6", "--out", str(folder / "out"), "--overwrite"], _PREDICT),
        "segment": ([str(photo), "--bundle", str(bundle), "--points-per-side", "2"], _SEGMENT),
        "info": ([str(bundle)], ("--json",)),
    }

    def attempt(rng: np.random.Generator) -> None:
        verb = list(commands)[rng.integers(len(commands))]
        arguments, options = commands[verb]
        arguments = [verb, *arguments]
        for _ in range(rng.integers(1, 3)):
            value = str(mutate.values(rng)).replace("\x00", "")
            place = int(rng.integers(len(arguments)))
            match rng.integers(4):
                case 0:
                    arguments[place] = value
                case 1 if len(arguments) > 1:
                    del arguments[place]
                case _:
                    arguments += [options[rng.integers(len(options))], value]
        printed, complaints = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(complaints):
            code = run(arguments)
        assert code in {0, 1, 2}, f"exit code {code}"
        for line in (printed.getvalue() + complaints.getvalue()).splitlines():
            assert line.isprintable(), f"printed {line[:80]!r}"
        assert "Traceback" not in complaints.getvalue()

    return attempt


_PREDICT = ("--point", "--box", "--mask-input", "--threads", "--provider", "--json", "--multimask")
_SEGMENT = ("--threads", "--out", "--checkpoint", "--provider", "--bundle")

SURFACES: dict[str, Callable[[Path], Attempt]] = {
    "manifest": manifest,
    "golden": golden,
    "run_lengths": run_lengths,
    "record": record,
    "foreign_record": foreign_record,
    "shard": shard,
    "photo_list": photo_list,
    "quantization_recipe": quantization_recipe,
    "training_recipe": training_recipe,
    "photo": photo,
    "checkpoint": checkpoint,
    "recognizer": recognizer,
    "training_state": training_state,
    "package": package,
    "generator_arguments": generator_arguments,
    "predictor_arguments": predictor_arguments,
    "command_line": command_line,
}
