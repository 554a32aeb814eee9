"""Geometry from the original pixels: cameras refined by bundle adjustment, then dense depth.

`refinement.run.refine` is the door: pictures on disk and a network's reconstruction in, a
`Refinement` out. It never fails for what pictures show: what can't be refined stays the network's,
with a reason.
"""
