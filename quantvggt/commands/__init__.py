"""One module a command: its options, and what runs it. None imports what it runs before it runs."""
