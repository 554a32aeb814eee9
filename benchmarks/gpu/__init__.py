"""What is measured on a machine with a GPU, in under nine minutes; see `__main__.py`."""
