"""Scores of refined cameras and dense depth, on sets of whole pictures with known geometry."""
