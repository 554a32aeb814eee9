"""What a result is: the document that describes it and the arrays that hold its maps."""
