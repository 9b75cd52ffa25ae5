"""TFLite files, quantized through AI Edge Quantizer."""
