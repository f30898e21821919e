"""Customers who live on from session to session, and attackers who come into their lives. Seeded, lazy and pure."""
