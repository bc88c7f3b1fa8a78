"""Who gets in: tokens, attempts a viewer. Judges by its own memory; asks others only through what it is handed."""
