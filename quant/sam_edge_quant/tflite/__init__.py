"""TFLite files quantized by AI Edge Quantizer."""
