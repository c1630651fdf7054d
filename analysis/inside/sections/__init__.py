"""Sections of a report that look into the models, a file each; see `analysis.sections`."""
