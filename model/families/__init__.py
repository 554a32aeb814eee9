"""Network families: one module or package each, and a registry by name."""
