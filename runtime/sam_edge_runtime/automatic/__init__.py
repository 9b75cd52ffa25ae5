"""Automatic mask generation: masks for everything in a photo, prompted by a grid of points."""
