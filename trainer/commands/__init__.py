"""The trainer's commands, a module each."""
