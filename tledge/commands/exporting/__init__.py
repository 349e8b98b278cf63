"""What `tledge export` is made of: the run's steps again, one candidate of each precision, and what it may cost."""
