"""Scores against ground truth by the published protocols, and what quantisation changed."""
