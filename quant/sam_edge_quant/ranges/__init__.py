"""Ranges of activations, estimated from what calibration saw."""
