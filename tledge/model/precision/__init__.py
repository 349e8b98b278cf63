"""Float backbone → the same in int8 or fp16: calibrated, measured, repaired, and told of what it is."""
