"""Wire formats: from the bytes of a record to the JSON of the event that they carry (ADR 0043)."""
