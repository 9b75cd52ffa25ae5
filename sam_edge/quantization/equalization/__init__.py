"""The torch side of `sam_edge_quant.methods`: where in a model its methods apply, and what they need to know."""
