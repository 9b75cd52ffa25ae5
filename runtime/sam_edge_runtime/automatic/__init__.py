"""Automatic mask generation: everything in a photo from a grid of points."""
