"""What a table of predictions and a cohort's labels support; no encoder and no torch."""
