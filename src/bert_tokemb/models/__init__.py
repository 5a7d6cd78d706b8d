"""From the name of a model to its files, weights and graph, and the engine that runs it."""
