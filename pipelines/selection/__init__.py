"""`--keep`: which samples of a corpus are used."""
