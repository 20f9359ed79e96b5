"""The demonstration: a year of real purchases through the whole path."""
