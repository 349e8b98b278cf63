"""The steps of `tledge bench`."""
