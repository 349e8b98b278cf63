"""What the inputs of any graph are fed."""
