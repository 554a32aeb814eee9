"""Building blocks of the networks, and what holds for any of them while it runs."""
