"""Which images, labels and patients. Imports no torch."""
