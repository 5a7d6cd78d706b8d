"""Helpers shared by the tests: old interpreters, servers, small models."""
