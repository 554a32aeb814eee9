"""The network behind the service, what a scene will cost on it, and how scenes that cost too much
are cut down."""
