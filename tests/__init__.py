"""All tests: a package, so that `tests.producer` is not `producer`."""
