"""Maps of one activation to another, fitted from the moments of the pair."""
