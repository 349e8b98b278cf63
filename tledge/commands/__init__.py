"""What the commands do, one function each, without a terminal: parse and render are the command line's."""
