"""pi3 (Wang et al., 2025) and Pi3X: no view is the reference, every picture has a point for each of
its pixels in its own camera's frame."""
