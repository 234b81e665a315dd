"""How good audio is: scores with and without a reference, their means, and how sure those are."""
