"""Pictures with known geometry: readers of data sets, and synthetic scenes."""
