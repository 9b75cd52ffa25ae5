"""Verification: the masks of a bundle are compared with those of fp32 torch, against bounds."""
