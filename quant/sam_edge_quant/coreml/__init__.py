"""Core ML packages quantized by coremltools."""
