"""Prompts answered by a bundle or by a torch model."""
