"""What a kernel may not do."""

from __future__ import annotations


class Fault(RuntimeError):
    """A kernel did what the PTX ISA leaves undefined or an architecture refuses; says what and
    where."""
