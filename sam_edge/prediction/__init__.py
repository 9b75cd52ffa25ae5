"""Prediction: a bundle or a torch model answers prompts."""
