"""Arrays <-> messages of the three protocols; knows no network. Both clients and `dl-inference call` use it."""
