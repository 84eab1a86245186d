"""Reading an audit. Law: nothing here writes; what is in a file may have been put there by anybody."""
