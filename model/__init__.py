"""The VGGT network, its stored forms, and the way from pictures to cameras and points."""

from model.config import VGGTConfig
from model.prediction import Prediction
from model.vggt import VGGT

__all__ = ["VGGT", "Prediction", "VGGTConfig"]
