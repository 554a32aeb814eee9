"""Finished reconstructions on disk, and the files in other programs' formats that are made from them on demand."""
