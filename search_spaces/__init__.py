"""What may vary: Optuna define-by-run functions, one file per trainable."""
