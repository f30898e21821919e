"""The documentation's commands, run: cheap pages by every test run, all of them by `make docs-check`."""
