"""One trial. The numeric core imports torch and numpy, never Ray."""
