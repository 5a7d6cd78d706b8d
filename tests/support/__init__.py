"""What the tests stand on: old interpreters, genuine and stand-in servers, small models."""
