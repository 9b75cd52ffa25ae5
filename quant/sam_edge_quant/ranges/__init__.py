"""Ranges of activations, estimated from their values on calibration samples."""
