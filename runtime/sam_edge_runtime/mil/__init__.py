"""An evaluator of Core ML's ML Programs: a `.mlpackage`'s numbers on machines that are not a Mac.

Apple's framework runs on Apple's systems only. What a package computes is written down in it, though, as a list of MIL
operations (https://apple.github.io/coremltools/source/coremltools.converters.mil.mil.ops.defs.html). `package` reads
it, `operations` lists how each kind is computed in numpy, `program` runs the list. It knows more operations than this
project's packages use, compressed weights among them, and names any other. It says nothing of speed, and of the Neural
Engine's rounding only what the package itself says: tensors declared float16 are rounded to float16 after each
operation, and what happens inside of one is computed in float32.
"""

from __future__ import annotations

from .package import read_package
from .program import Program

__all__ = ["Program", "read_package"]
