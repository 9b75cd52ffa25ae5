"""ONNX artifacts, quantized through ONNX Runtime's quantizer."""
