"""The commands, one a module; none imports anything heavy before it runs."""
