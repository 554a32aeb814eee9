"""Readers of data sets and folders with known cameras."""
