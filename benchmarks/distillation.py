"""Does prompt-in-the-loop distillation pay? Students of two shapes, with embeddings alone and with prompts too.

EdgeSAM's ablation (arXiv 2312.06660) says so: 82.0 / 64.6 -> 83.0 / 67.5 mIoU for boxes and points on SA-1K. Here the
teacher is nano. The students are a nano that starts from ImageNet weights and a TinyViT that starts from random ones,
both with the teacher's decoder. Each plan has the same number of steps on the same photos. The runs are short: they
compare plans, not models.

    python benchmarks/distillation.py --data shards/ --steps 300 --encoder mobilenet_v2.tflite --out runs/ --json FILE
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from tables.distillation import distillation_table

from sam_edge.data.mixture import open_mixture
from sam_edge.data.sources import open_source
from sam_edge.distillation.embeddings import EmbeddingCache
from sam_edge.distillation.encoder import EncoderObjective
from sam_edge.distillation.inherit import copy_decoder
from sam_edge.distillation.prompt import PromptObjective
from sam_edge.evaluation.evaluate import evaluate_source
from sam_edge.evaluation.measure import Protocol
from sam_edge.model import Sam, build_sam
from sam_edge.model.nano import DETAIL_CHANNELS, NANO_SIDE, SEMANTIC_CHANNELS
from sam_edge.model.nano_decoder import NanoMaskDecoder, NanoPromptEncoder
from sam_edge.model.tiny_vit import TinyViT
from sam_edge.model.torch_backend import TorchBackend
from sam_edge.prediction.promptable import AnyCapacity
from sam_edge.reporting.versions import tool_versions
from sam_edge.training.files import WEIGHTS_FILE
from sam_edge.training.losses import RECIPES
from sam_edge.training.objective import Objective, SessionRecipe
from sam_edge.training.recipe import Phase, TrainRecipe
from sam_edge.training.train import InitialWeights, load_initial_weights
from sam_edge.training.trainer import Trainer, TrainJob
from sam_edge.weights.checkpoint import CheckpointSource, load_into
from sam_edge.weights.load import find_source, load_sam

PLANS = {"encoder": (1.0, 0.0), "encoder+prompt": (0.5, 0.5)}  # shares of the steps
CLICKS = 3
SOURCES = ("coco/train.tar", "coco/train_2.tar", "ccp/train.tar", "feralcat/train.tar", "things/train.tar")


def nano_student(encoder: Path | None) -> Sam:
    """A nano, whose encoder has ImageNet weights if their file is given."""
    sam = build_sam("nano")
    load_initial_weights(sam, InitialWeights(encoder=encoder))
    return sam


def tiny_vit_student(_: Path | None) -> Sam:
    """TinyViT's encoder, seeded, in front of nano's decoder."""
    parts = {
        "prompt_encoder": NanoPromptEncoder(SEMANTIC_CHANNELS, NANO_SIDE),
        "mask_decoder": NanoMaskDecoder(SEMANTIC_CHANNELS, DETAIL_CHANNELS),
    }
    return Sam(TinyViT(), channels=SEMANTIC_CHANNELS + DETAIL_CHANNELS, native_side=NANO_SIDE, **parts).eval()  # type: ignore[arg-type]


STUDENTS: dict[str, Callable[[Path | None], Sam]] = {"nano": nano_student, "tiny_vit": tiny_vit_student}


def main() -> None:
    """Run every plan and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with the train tars and coco/val.tar")
    parser.add_argument("--out", type=Path, required=True, help="new folder for the runs")
    parser.add_argument("--json", type=Path, required=True, help="file for the figures")
    parser.add_argument("--encoder", type=Path, help="MobileNetV2 (.tflite) that nano's encoder starts from")
    parser.add_argument("--checkpoint", help="weights of the teacher; default: nano's own")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--side", type=int, default=256)
    arguments = parser.parse_args()
    teacher = load_sam("nano", find_source("nano", arguments.checkpoint), arguments.side)
    validation = open_source(arguments.data / "coco" / "val.tar")

    def evaluated(sam: Sam) -> dict[str, float]:
        figures = evaluate_source(
            TorchBackend(sam.eval()),
            AnyCapacity.of(sam),
            validation,
            Protocol(CLICKS, grabcut=False),
        )
        return {"box": figures.box.single, **{f"{k + 1} clicks": value for k, value in enumerate(figures.shown)}}

    rows: list[dict[str, Any]] = [{"student": "(teacher)", "plan": "-", **evaluated(teacher.sam)}]
    print(rows[-1])
    recipe = TrainRecipe(
        "nano",
        SOURCES,
        (Phase(arguments.steps, arguments.side, photos=8, masks=4, interactions=3),),
        loss="ritm",
        single_always=True,
        warm_up=min(50, arguments.steps // 4),
        weight_decay=0.01,
        ema=0.99,
        precision="auto",
    )
    for name, build in STUDENTS.items():
        for plan, shares in PLANS.items():
            torch.manual_seed(0)
            student = build(arguments.encoder)
            begun = time.perf_counter()
            for stage, share in zip(("encoder", "prompt"), shares, strict=True):
                if share == 0.0:
                    continue
                steps = round(share * arguments.steps)
                part = replace(recipe, phases=(replace(recipe.phases[0], steps=steps),))
                job = TrainJob(
                    arguments.data,
                    arguments.out / f"{name}-{plan}-{stage}",
                    photos_only=stage == "encoder",
                    picture_every=0,
                )
                objective: Objective
                if stage == "encoder":
                    cache = EmbeddingCache(
                        arguments.out / "embeddings",
                        str(teacher.checkpoint.sha256),
                        arguments.side,
                        teacher.sam.channels,
                    )
                    sources = open_mixture([str(arguments.data / source) for source in SOURCES]).sources
                    cache.fill(sources, TorchBackend(teacher.sam))
                    copy_decoder(student, teacher.sam)
                    objective = EncoderObjective(student, cache, projected=False)
                else:
                    session = SessionRecipe(single_always=True)
                    student.requires_grad_(requires_grad=True)
                    objective = PromptObjective(student, teacher.sam, RECIPES["ritm"], session, seed=0)
                weights = Trainer(job, part, objective).run()
                if weights is None:
                    raise SystemExit("a run stopped before its end")
                load_into(student, CheckpointSource(path=arguments.out / f"{name}-{plan}-{stage}" / WEIGHTS_FILE))
            seconds = time.perf_counter() - begun
            rows.append({"student": name, "plan": plan, **evaluated(student), "seconds": round(seconds)})
            print(rows[-1])
    result = {
        "what": __doc__.splitlines()[0],
        "teacher": {"sha256": teacher.checkpoint.sha256, "side": arguments.side},
        "steps": arguments.steps,
        "data": "coco/val.tar, 40 photos, 303 masks",
        "rows": rows,
        "machine": {"system": platform.system(), "processor": platform.machine()},
        "versions": tool_versions(("torch", "accelerate")),
    }
    arguments.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(distillation_table(rows))


if __name__ == "__main__":
    main()
