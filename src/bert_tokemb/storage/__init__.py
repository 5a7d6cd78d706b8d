"""Outputs that are complete or absent, locked, and resumable."""
