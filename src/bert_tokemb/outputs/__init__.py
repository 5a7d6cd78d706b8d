"""What becomes of the arrays."""
