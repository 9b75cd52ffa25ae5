"""Tests, mirroring the four rooms."""
