"""Where a model comes from, its weights, its vocabulary and its graph."""
