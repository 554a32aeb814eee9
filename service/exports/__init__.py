"""Files in other programs' formats, made from a finished reconstruction when somebody asks for
them."""
