"""After the trials: floors, zero-shot, statistics and the report."""
