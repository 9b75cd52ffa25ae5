"""Verification: a bundle's masks against those of fp32 torch, on photos, with bounds and pictures."""

from __future__ import annotations

from .verify import Verification, VerifyJob, verify

__all__ = ["Verification", "VerifyJob", "verify"]
