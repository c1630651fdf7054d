"""Vision-language encoders and what is computed from them once."""
