"""Where predictors look: maps over images, held against what people drew and said, and against baselines."""
