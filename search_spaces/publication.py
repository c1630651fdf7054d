"""Whose configuration is searched beside our own."""

PUBLICATION = "Sadman et al. 2025, arXiv 2506.14136"
PUBLISHED_NAME = "the published configuration"
