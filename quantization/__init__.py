"""How a checkpoint becomes an artifact: calibration, recipes, quantisation. Never imported by the
service."""
