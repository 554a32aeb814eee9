"""Checkpoints in, artifacts out and in."""
