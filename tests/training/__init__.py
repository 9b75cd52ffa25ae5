"""Tests of the training rules: numbers against plain formulas, and properties of what is drawn."""
