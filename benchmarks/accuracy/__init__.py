"""Accuracy of the demo model: full precision against every recipe on the test split, with bootstrap
intervals."""
