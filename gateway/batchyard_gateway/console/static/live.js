// Live: one stream of events a tab; an event says "look again", and what is shown is read from the gateway.
