"""PyTorch's side of equalization: where in a model the methods of `sam_edge_quant.methods` apply, and their inputs."""
