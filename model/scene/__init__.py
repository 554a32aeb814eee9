"""What answers of a network mean: cameras, points, similarities, chunks, loops; pictures to the
grid and back."""
