"""One job from pictures to a stored result: run the passes, align, close loops, write."""
