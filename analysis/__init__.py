"""After the trials: the score table, what may be claimed, and the report."""
