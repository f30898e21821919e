"""The console: a web page that shows alerts as they commit, what has yet to be judged, and how the detectors fare.

An outermost part: it reads alerts and verdicts as any subscriber does and the workers' metrics over HTTP, and knows
nothing of what goes on inside them. Decisions and their reasons: docs/adr/0014-console.md and 0040-workbench.md.
"""
