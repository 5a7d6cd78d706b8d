"""Helpers of the tests: old interpreters, genuine and stand-in servers, small models."""
