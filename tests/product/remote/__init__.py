"""Images at addresses, on servers of this machine."""
