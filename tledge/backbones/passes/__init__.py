"""What is done to a network or graph on its way to a backbone: one transformation per file."""
