"""Is a model slower than another one, or than it was?"""
