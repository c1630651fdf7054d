"""Arrays in, numbers out: metrics, thresholds, the judgement of a model, intervals and tests."""
