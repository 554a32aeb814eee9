"""How this service speaks HTTP: problem documents, negotiation, downloads in ranges."""
