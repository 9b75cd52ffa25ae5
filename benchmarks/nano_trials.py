"""What makes nano learn most from a second: short runs that differ in one thing each, with equal computing time.

    python benchmarks/nano_trials.py                              # the table of results/nano_trials.json
    python benchmarks/nano_trials.py --measure --data DATA        # the trials that are missing, then the table
    python benchmarks/nano_trials.py --measure --data DATA --trials paste neighbours --seconds 300

A trial is a change of the base recipe, or another start. Each runs in a process of its own, on one thread: three steps
tell what a step costs, then it trains for as many steps as `--seconds` of the processor allow, so its cosine ends where
its time ends. It is judged by people's masks on photos of coco/val and ccp/val. Runs this short compare recipes, not
models; the spread of the base over seeds tells which differences mean something.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from tables.nano_trials import nano_trials_table

from sam_edge.data.sources import open_source
from sam_edge.evaluation.evaluate import evaluate_source
from sam_edge.evaluation.measure import Protocol
from sam_edge.model.torch_backend import TorchBackend
from sam_edge.prediction.promptable import AnyCapacity
from sam_edge.reporting.versions import commit
from sam_edge.training.recipe import Phase, find_recipe
from sam_edge.training.train import InitialWeights, train
from sam_edge.training.trainer import TrainJob
from sam_edge.weights.load import find_source, load_sam
from sam_edge_runtime.benchmark.machine import machine

RESULTS = Path(__file__).parent / "results" / "nano_trials.json"
VALIDATION = {"coco": "coco/val.tar", "ccp": "ccp/val.tar"}
CLICKS = 3
PROBE = 3  # steps that tell what a step costs; the first one is left out
CONSOLE = Console(stderr=True, markup=False, highlight=False)
BASE = replace(  # nano's own recipe, made short
    find_recipe("nano"),
    phases=(Phase(1, 256, photos=16, masks=4, interactions=3, scale=(0.7, 2.6)),),
    learning_rate=3e-4,
    warm_up=5,
    final_rate=0.05,
    ema=0.9,
    precision="no",
)
Row = dict[str, Any]


@dataclass(frozen=True)
class Trial:
    """A short run.

    Attributes:
        what: what differs from the base.
        recipe: changed keys of the recipe.
        phase: changed keys of its phase.
        encoder: file in `--weights` that the image encoder starts from; None: the whole of nano as it is shipped.
    """

    what: str
    recipe: dict[str, Any] = field(default_factory=dict)
    phase: dict[str, Any] = field(default_factory=dict)
    encoder: str | None = None


TRIALS: dict[str, Trial] = {
    "base": Trial("nano as shipped, 16 photos of 256 pixels with 4 masks, 3 prompts each"),
    "base-1": Trial("the same with another seed", {"seed": 1}),
    "base-2": Trial("the same with a third seed", {"seed": 2}),
    "imagenet": Trial(
        "encoder from ImageNet", {"learning_rate": 1.5e-3}, encoder="tf2_mobilenet_v2_1.0_224_ptq.tflite"
    ),
    "deeplab": Trial(
        "encoder from DeepLab on VOC", {"learning_rate": 1.5e-3}, encoder="deeplabv3_mnv2_pascal_quant.tflite"
    ),
    "paste": Trial("copy-paste on 0.5 of the photos", {"paste": 0.5}),
    "neighbours": Trial("0.2 of the second prompts on a neighbour", {"neighbours": 0.2}),
    "boundary": Trial("outlines count 4 times as much", {"boundary_weight": 3.0}),
    "frozen": Trial(
        "first blocks frozen", {"frozen": tuple(f"image_encoder.{part}" for part in ("stem", "blocks.0", "blocks.1"))}
    ),
    "zoomed": Trial("larger crops of small things", phase={"scale": (1.0, 4.0)}),
    "more-masks": Trial("8 masks a photo", phase={"masks": 8}),
    "one-prompt": Trial("1 prompt a mask", phase={"interactions": 1}),
    "more-prompts": Trial("6 prompts a mask", phase={"interactions": 6}),
    "more-photos": Trial("32 photos a step", phase={"photos": 32}),
    "fewer-photos": Trial("8 photos a step", phase={"photos": 8}),
    "512": Trial("6 photos of 512 pixels", phase={"side": 512, "photos": 6, "scale": (0.6, 1.8)}),
    "int8": Trial("fake quantization", phase={"fake_quant": True}),
    "fast": Trial("three times the learning rate", {"learning_rate": 1e-3}),
    "slow": Trial("a third of the learning rate", {"learning_rate": 1e-4}),
}


def main() -> None:
    """Measure what is wanted, and print the table."""
    arguments = _arguments()
    if arguments.child:
        print(json.dumps(measured(arguments.child, arguments)))
        return
    results: Path = arguments.results
    document = json.loads(results.read_text("utf-8")) if results.is_file() else {"trials": {}}
    if arguments.measure:
        for name in arguments.trials:
            if name in document["trials"]:
                continue
            what = TRIALS[name].what if name in TRIALS else "before"
            document["trials"][name] = {"what": what, **_in_a_process(name)}
            document |= {"machine": machine(), "commit": commit(), "seconds": arguments.seconds}
            results.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
            CONSOLE.print(f"{name}: {document['trials'][name]}")
    print(nano_trials_table(document["trials"]))


def _in_a_process(name: str) -> Row:
    said = subprocess.run(
        [sys.executable, __file__, *sys.argv[1:], "--child", name],
        stdout=subprocess.PIPE,
        text=True,
        check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    if said.returncode:
        sys.exit(f"{name} ended with exit code {said.returncode}; its error is above")
    row: Row = json.loads(said.stdout.splitlines()[-1])
    return row


def measured(name: str, arguments: argparse.Namespace) -> Row:
    """A trial's steps and figures; `shipped` is nano without any."""
    torch.set_num_threads(1)
    if name == "shipped":
        return {"steps": 0, "views": 0, **_figures(None, arguments)}
    trial = TRIALS[name]
    with tempfile.TemporaryDirectory() as folder:
        marks: list[float] = []
        _trained(trial, PROBE, arguments, Path(folder) / "probe", marks)
        cost = (marks[-1] - marks[0]) / (PROBE - 1)
        steps = max(1, round(arguments.seconds / cost))
        weights = _trained(trial, steps, arguments, Path(folder) / "run", marks)
        photos = int(trial.phase.get("photos", BASE.phases[0].photos))
        return {"steps": steps, "views": steps * photos, "step_seconds": cost, **_figures(str(weights), arguments)}


def _trained(trial: Trial, steps: int, arguments: argparse.Namespace, out: Path, marks: list[float]) -> Path:
    """The weights after so many steps; the processor's seconds after each are appended to `marks`."""
    phase = replace(BASE.phases[0], steps=steps, **trial.phase)
    recipe = replace(BASE, phases=(phase,), **trial.recipe)
    if trial.encoder is None:
        start = InitialWeights(checkpoint=str(find_source("nano", None).path))
    else:
        start = InitialWeights(encoder=arguments.weights / trial.encoder)
    job = TrainJob(arguments.data, out, workers=0, save_every=10**6, picture_every=0)
    weights = train(job, recipe, start, on_step=lambda step, record: marks.append(time.process_time()))
    if weights is None:
        sys.exit("a run stopped before its end")
    return weights


def _figures(checkpoint: str | None, arguments: argparse.Namespace) -> Row:
    """IoU with people's masks: from a box, and from one click and more."""
    loaded = load_sam("nano", find_source("nano", checkpoint))
    found = {}
    for name, source in VALIDATION.items():
        figures = evaluate_source(
            TorchBackend(loaded.sam.eval()),
            AnyCapacity.of(loaded.sam),
            open_source(arguments.data / source),
            Protocol(CLICKS, grabcut=False),
        )
        found[name] = {"box": figures.box.single, "clicks": list(figures.shown)}
    return found


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--results", type=Path, default=RESULTS, help="file of the measurements")
    parser.add_argument("--measure", action="store_true", help="measure the trials that the file does not have")
    parser.add_argument("--trials", nargs="+", choices=("shipped", *TRIALS), default=["shipped", *TRIALS])
    parser.add_argument("--seconds", type=float, default=120.0, help="of one processor, for the steps of a trial")
    parser.add_argument(
        "--data", type=Path, help="folder with the sets of nano's recipe, and coco/val.tar, ccp/val.tar"
    )
    parser.add_argument("--weights", type=Path, help="folder of the encoders that two trials start from")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure and arguments.data is None:
        parser.error("--measure needs --data")
    return arguments


if __name__ == "__main__":
    main()
