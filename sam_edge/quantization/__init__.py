"""PyTorch's side of quantization: calibration, equalization, GPTQ, fake quantization, mixed precision."""
