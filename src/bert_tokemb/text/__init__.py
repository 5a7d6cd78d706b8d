"""Input: paths, standard input and compressed files, as lines of text."""
