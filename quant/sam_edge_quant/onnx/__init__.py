"""ONNX graphs quantized by ONNX Runtime's quantizer."""
