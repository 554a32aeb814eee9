"""What a client sends: the body, its options, pictures, archives, videos and masks, checked before
anything is kept."""
