"""Models and bundles of strangers."""
