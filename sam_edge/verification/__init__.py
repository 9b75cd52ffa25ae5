"""Verification: a bundle's masks against those of fp32 torch, on photos, with bounds and pictures."""
