"""Dataset readers: scenes with ground truth, real and synthetic."""
