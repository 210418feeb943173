"""Measurements: ratios against a reference in one run; what they showed is in RESULTS.md."""
