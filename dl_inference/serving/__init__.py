"""What every model server knows in the same way: model folders, settings, addresses to listen on."""
