"""The one door to image files: lazy sources by format, pairing of folders, writers."""
