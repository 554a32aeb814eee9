"""The public import path of `model.files.artifact`."""

from model.files.artifact import load, save

__all__ = ["load", "save"]
