"""How what was read is kept up to date: when to look again, what is believed, what stays when a source is lost."""
