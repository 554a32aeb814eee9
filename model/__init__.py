"""The VGGT network, its stored forms, and the way from pictures to cameras and points."""

from model.families.vggt.config import VGGTConfig
from model.families.vggt.network import VGGT
from model.network.prediction import Prediction

__all__ = ["VGGT", "Prediction", "VGGTConfig"]
