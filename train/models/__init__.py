"""The model that a config describes, its training and its predictions, and the ridge beside it."""
