"""One reconstruction from acceptance to its end: a durable record, a bounded queue, one worker,
live events."""
