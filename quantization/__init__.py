"""The offline side: training data, calibration, quantisation recipes, evaluation. Never imported by
the service."""
