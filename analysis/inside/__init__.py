"""What the models look at and what their features hold."""
