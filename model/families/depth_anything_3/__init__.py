"""Depth Anything 3 (Lin et al., 2025): one plain vision transformer that attends over the scene in
its later blocks; and its relatives for single pictures."""
