"""Core ML packages, quantized through coremltools."""
