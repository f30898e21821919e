"""The console: a web page that shows alerts as they commit, and how the detectors fare. Read-only.

An outermost part: it reads the alerts topic as any subscriber does and the workers' metrics over HTTP, and knows
nothing of what goes on inside them. Decisions and their reasons: docs/adr/0014-console.md.
"""
