"""K responses to a prompt -> the kept one, and what keeping the best of n is worth."""
