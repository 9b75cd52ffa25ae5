"""What is fuzzed: for each surface a function that makes valid inputs in a folder and returns one that tries mutations.

A surface is a place where the project reads something that it did not write a moment ago: a manifest, a golden test, a
run-length encoding, a record, a tar, a recipe, a photo, a checkpoint, a Core ML package, arguments of the API.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from .arguments import command_line, generator_arguments, predictor_arguments
from .bundles import golden, manifest, package
from .inputs import Attempt
from .recipes import quantization_recipe, training_recipe
from .records import foreign_record, record, run_lengths
from .sources import photo, photo_list, shard
from .weights import checkpoint, recognizer, training_state

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
