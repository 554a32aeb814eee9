"""Calibration: scenes in, the network a block at a time, a quantised network and a report out."""
