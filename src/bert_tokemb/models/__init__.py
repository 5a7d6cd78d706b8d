"""From a model's name to its files, weights and graph, and the engine that runs it."""
