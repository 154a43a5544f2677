"""Tables and files of official folders, and the items that readers yield from them."""
