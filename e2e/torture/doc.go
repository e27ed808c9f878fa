// Package torture proves the promise of the whole: no acknowledged event is lost, doubled or out of order, whatever happens on the way.
//
// The built router runs as a process and is killed at random moments. Real clients post to it through proxies that cut, slow and truncate, and keep a ledger of
// what was acknowledged; behind it a sandbox fails in the ways that HubSpot has. In the end faults stop, the router drains, and the ledger is held against what the
// sandbox holds and what the router says of each event.
//
//	clients ─▶ toxiproxy ─▶ router (kill -9) ─▶ toxiproxy ─▶ sandbox
//	   └────────────── ledger ──────── verdict ───────────────┘
//
// The seed decides events and the plan of faults. TORTURE_SEED, TORTURE_DURATION and TORTURE_KILLS say which run it is, see `make torture`.
package torture
