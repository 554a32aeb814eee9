"""A still life of our own, path-traced: the second bundled set of sample pictures."""
