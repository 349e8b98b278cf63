"""The steps of `tledge listen`."""
