"""Tables and files of official folders, and what could not be read of them."""
