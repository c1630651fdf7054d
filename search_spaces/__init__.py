"""What may vary: Optuna define-by-run functions, one file per trainable."""

SPACES = ("linear_probe", "fine_tune")
"""The modules of spaces, each with

- `SPACE`, a `search_spaces.parameters.Space`, of which `suggest` and `check` are bound;
- `PRESETS`: name -> a published configuration, tried first; `{}` where nothing was published;
- `warm_starts(fixed, ranges, multiclass=...)`: configurations tried next, those inside a study's space;
- `COLUMNS`: of a table of trials, column -> the parameters that stand in it.
"""
