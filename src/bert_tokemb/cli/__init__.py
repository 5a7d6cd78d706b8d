"""The command line: commands, options, choice of encoder, wording of errors."""
