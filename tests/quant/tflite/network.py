"""Small TFLite files, built one operation at a time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from ai_edge_litert.tools import flatbuffer_utils

TYPES = {"float32": schema.TensorType.FLOAT32, "int32": schema.TensorType.INT32}
SAME, VALID = schema.Padding.SAME, schema.Padding.VALID
RELU = schema.ActivationFunctionType.RELU


class Net:
    """A file under construction: callers name tensors, constants with equal bytes share a buffer."""

    def __init__(self):
        self.model = schema.ModelT()
        self.model.version, self.model.description = 3, b"test"
        self.model.subgraphs, self.model.operatorCodes, self.model.signatureDefs = [], [], []
        self.model.buffers = [schema.BufferT()]
        self._constants = {}

    def start(self, **inputs):
        """Begin a graph with inputs of these shapes."""
        self.graph = schema.SubGraphT()
        self.graph.tensors, self.graph.operators, self.graph.name = [], [], b"main"
        self.inputs = {name: self.tensor(name, shape) for name, shape in inputs.items()}
        return self

    def tensor(self, name, shape, kind="float32", buffer=0):
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.hasRank = name.encode(), list(shape), True
        tensor.type, tensor.buffer = TYPES[kind], buffer
        self.graph.tensors.append(tensor)
        return len(self.graph.tensors) - 1

    def constant(self, array, name=""):
        array = np.ascontiguousarray(array)
        key = array.tobytes(), array.dtype
        if key not in self._constants:
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(array.tobytes(), np.uint8)
            self.model.buffers.append(buffer)
            self._constants[key] = len(self.model.buffers) - 1
        name = name or f"constant{len(self.graph.tensors)}_{len(self.model.subgraphs)}"
        return self.tensor(name, array.shape, array.dtype.name, self._constants[key])

    def add(self, kind, name, shape, *inputs, **options):
        """Add an operation; inputs are tensor names, or arrays for constants; None is skipped."""
        indices = [self._index(each) for each in inputs if each is not None]
        operation = schema.OperatorT()
        operation.opcodeIndex, operation.inputs = self._code(kind), indices
        operation.outputs = [self.tensor(name, shape)]
        if options:
            holder = options.pop("options")
            operation.builtinOptions = getattr(schema, f"{holder}T")()
            operation.builtinOptionsType = getattr(schema.BuiltinOptions, holder)
            for key, value in options.items():
                setattr(operation.builtinOptions, key, value)
        self.graph.operators.append(operation)
        return self

    def finish(self, *outputs, key="serving_default"):
        """End a graph with these tensors as outputs under their names."""
        signature = schema.SignatureDefT()
        signature.signatureKey, signature.subgraphIndex = key.encode(), len(self.model.subgraphs)
        given = {name: self._index(name) for name in outputs}
        signature.inputs = [_named(name.removesuffix(f"@{key}"), index) for name, index in self.inputs.items()]
        signature.outputs = [_named(name.removesuffix(f"@{key}"), index) for name, index in given.items()]
        self.graph.inputs, self.graph.outputs = list(self.inputs.values()), list(given.values())
        self.model.subgraphs.append(self.graph)
        self.model.signatureDefs.append(signature)
        return self

    def write(self, path):
        flatbuffer_utils.write_model(self.model, str(path))
        return Path(path)

    def conv(self, name, shape, source, weight, bias, padding=SAME, activation=0):
        fixed = {"strideW": 1, "strideH": 1, "dilationWFactor": 1, "dilationHFactor": 1, "padding": padding}
        return self.add(
            "CONV_2D", name, shape, source, weight, bias,
            options="Conv2DOptions", fusedActivationFunction=activation, **fixed,
        )  # fmt: skip

    def depthwise(self, name, shape, source, weight, bias=None):
        fixed = {"strideW": 1, "strideH": 1, "dilationWFactor": 1, "dilationHFactor": 1, "depthMultiplier": 1}
        return self.add(
            "DEPTHWISE_CONV_2D", name, shape, source, weight, bias, options="DepthwiseConv2DOptions", **fixed
        )

    def upwards(self, name, shape, source, weight, bias=None):
        size = np.array(shape, np.int32)
        return self.add(
            "TRANSPOSE_CONV", name, shape, size, weight, source, bias,
            options="TransposeConvOptions", strideW=2, strideH=2, padding=VALID,
        )  # fmt: skip

    def dense(self, name, shape, source, weight, bias=None):
        return self.add(
            "FULLY_CONNECTED", name, shape, source, weight, bias, options="FullyConnectedOptions", keepNumDims=True
        )

    def matmul(self, name, shape, source, weight, transposed=False):
        return self.add(
            "BATCH_MATMUL", name, shape, source, weight, options="BatchMatMulOptions", adjX=False, adjY=transposed
        )

    def sum(self, name, shape, *sources):
        return self.add("ADD", name, shape, *sources, options="AddOptions", fusedActivationFunction=0)

    def reshape(self, name, shape, source):
        return self.add("RESHAPE", name, shape, source, np.array(shape, np.int32))

    def _index(self, each):
        if not isinstance(each, str):
            return self.constant(each)
        return next(index for index, tensor in enumerate(self.graph.tensors) if tensor.name == each.encode())

    def _code(self, kind):
        number = getattr(schema.BuiltinOperator, kind)
        known = [code.builtinCode for code in self.model.operatorCodes]
        if number not in known:
            code = schema.OperatorCodeT()
            code.builtinCode, code.deprecatedBuiltinCode, code.version = (
                number,
                min(number, 127),
                1 if kind == "RESHAPE" else 3,
            )
            self.model.operatorCodes.append(code)
            known.append(number)
        return known.index(number)


def _named(name, index):
    entry = schema.TensorMapT()
    entry.name, entry.tensorIndex = name.encode(), index
    return entry


def run(path, sample, key="serving_default"):
    """A signature's outputs by name."""
    interpreter = Interpreter(model_path=str(path), num_threads=1)
    interpreter.allocate_tensors()
    return interpreter.get_signature_runner(key)(**sample)


def kinds(path, subgraph=0):
    """Kinds of a file's operations, in order."""
    model = flatbuffer_utils.read_model(str(path))
    names = {code: name for name, code in vars(schema.BuiltinOperator).items() if isinstance(code, int)}
    return [names[model.operatorCodes[each.opcodeIndex].builtinCode] for each in model.subgraphs[subgraph].operators]
