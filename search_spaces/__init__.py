"""What may vary: Optuna define-by-run functions, one file per trainable."""

SPACES = ("linear_probe", "fine_tune")
"""The modules with a `SPACE`, its `PRESETS` and its `warm_starts`."""
