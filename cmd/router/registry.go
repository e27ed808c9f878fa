package main

import (
	"eventrouter/pkg/destinations"
	"eventrouter/pkg/destinations/hubspot"
	"eventrouter/pkg/destinations/webhook"
)

// destinationTypes are the types of destinations, by the name that `type` has in the configuration. A new one is one line.
var destinationTypes = map[string]destinations.Factory{
	"hubspot": hubspot.New,
	"webhook": webhook.New,
}
