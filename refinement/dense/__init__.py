"""Dense depth from pictures with known cameras."""
