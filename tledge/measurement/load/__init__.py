"""The loads that a model is put under, and how long each answer takes."""
