"""Settings of a session held against one another."""
