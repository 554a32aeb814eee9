"""Cameras: features, matches, bundle adjustment, and the decision whose cameras to keep."""
