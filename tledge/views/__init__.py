"""How augmented views are made: one file for each modality that has some."""
