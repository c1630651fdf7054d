"""Sections of a report that are made of predictions and labels, a file each; see `analysis.sections`."""
