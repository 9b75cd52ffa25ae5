"""An evaluator of Core ML's ML Programs: runs a `.mlpackage` in numpy, on machines that are not a Mac.

Apple's framework runs on Apple's systems only, but a package lists the MIL operations that it computes
(https://apple.github.io/coremltools/source/coremltools.converters.mil.mil.ops.defs.html). `package` reads that list,
`operations` maps each operation type to a numpy function, and `program` runs the list. The evaluator supports more
operations than this project's packages use, compressed weights among them; an unsupported one is an error that names
it. Its speed is not Core ML's. It rounds as the package declares: float16 tensors are rounded to float16 after each
operation. Inside an operation it computes in float32, unlike the Neural Engine.
"""

from __future__ import annotations

from .package import read_package
from .program import Program

__all__ = ["Program", "read_package"]
