"""Does it hold: what an attacker does with a released model. Nothing here ever sees a key."""
