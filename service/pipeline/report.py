"""How those who work on a job tell how far it is."""

from __future__ import annotations

from collections.abc import Callable

Report = Callable[[str, float], None]
"""Called with a stage and the share of the work that is done; raises to stop the work."""
