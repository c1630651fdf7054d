"""The embedded cohort: everything that is drawn."""
