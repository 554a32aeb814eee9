"""Pictures that a request names by URL: which may be fetched, from where, and how much of them."""
