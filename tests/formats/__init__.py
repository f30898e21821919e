"""Wire formats: prefix, envelopes, names and the registry's schemas."""
