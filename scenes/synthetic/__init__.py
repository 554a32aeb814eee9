"""Procedural scenes with exact cameras and depth."""
