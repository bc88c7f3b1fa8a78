"""What time does, and what must be brought back in line: shards opened, sales loaded, released units returned."""
