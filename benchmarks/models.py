"""Size and compute of every model: parameters, and multiplications of the image encoder and of one click.

    python benchmarks/models.py              # the table of what was counted
    python benchmarks/models.py --count      # count, then the table; no weights are needed

Counted are the graphs of fp32 ONNX bundles at the side that the weights were trained for, by torch's FlopCounterMode:
matrix products and convolutions, which are all but a few percent of the work. A multiplication with its addition is one
MAC. The models are built on the meta device, so nothing is computed. A click has a point and SAM's padding point.
"""

from __future__ import annotations

import argparse
import json
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from sam_edge.model import VARIANTS
from sam_edge.model.forms import graphs_of
from sam_edge.model.variants import build_sam
from sam_edge.reporting.versions import commit, tool_versions
from sam_edge.weights.families import build_empty
from sam_edge_runtime.bundle.manifest import Checkpoint, Manifest

RESULTS = Path(__file__).parent / "results" / "models.json"
POINTS = 2  # slots of a prompt: a click, and the padding point
CONSOLE = Console(stderr=True, markup=False, highlight=False)


def main() -> None:
    """Count if wanted, and print the table."""
    from tables.documents import TABLES  # noqa: PLC0415  # tests import this module, and not as a script

    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--count", action="store_true", help="count every model again")
    if parser.parse_args().count:
        rows = []
        for variant in VARIANTS:
            rows.append(counted(variant))
            CONSOLE.print(str(rows[-1]))
        document = {"commit": commit(), "versions": tool_versions(("torch",)), "models": rows}
        RESULTS.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    print(TABLES["models-cost"]())


def counted(variant: str) -> dict[str, Any]:
    """Numbers of one model.

    Args:
        variant: its name.

    Returns:
        `variant`, `side` in pixels, `parameters`, and MACs: `encoder` of one photo, `click` of one prompt of one click.
    """
    import torch  # noqa: PLC0415  # printing the table needs none
    from torch.utils.flop_counter import FlopCounterMode  # noqa: PLC0415

    sam = build_empty(partial(build_sam, variant))
    about = Manifest(
        variant=variant,
        parameters=sum(parameter.numel() for parameter in sam.parameters()),
        licence="NOASSERTION",
        checkpoint=Checkpoint("random:0", None, random=True),
        target="onnx",
        precision="fp32",
        recipe={},
        input_side=sam.side,
        embedding_channels=sam.channels,
        prompts=1,
        points=POINTS,
        encoder="encoder.onnx",
        decoder="decoder.onnx",
        files={},
        conventions=sam.conventions,
    )
    macs = []
    with torch.device("meta"), torch.no_grad():
        graphs = graphs_of(sam, about)
        for graph, contract in ((graphs.encoder, about.encoder_contract), (graphs.decoder, about.decoder_contract)):
            inputs = [torch.empty([int(size) for size in each.shape]) for each in contract.inputs]
            with FlopCounterMode(display=False) as counter:
                graph(*inputs)
            macs.append(counter.get_total_flops() // 2)
    encoder, click = macs
    return {
        "variant": variant,
        "side": sam.side,
        "parameters": about.parameters,
        "encoder": encoder,
        "click": click,
    }


if __name__ == "__main__":
    main()
