// Package dryrun plays events through the routes of a configuration without sending anything.
//
//	events ─▶ Reader ─▶ enrichment ─▶ Route.Decide, for each destination ─▶ lanes ─▶ the destination's own Send ─▶ recorder ─▶ stand-in of the remote
//
// It is the code that the router runs, from the decision to the bytes of each request. Only the remote is another: what [destinations.Simulated] gives
// in its place. What is read of a running router is not changed.
package dryrun
