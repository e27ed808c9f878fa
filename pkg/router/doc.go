// Package router takes events from the log to the destinations: it sorts them into lanes, keeps the lanes moving, and
// records what became of each entry.
//
//	logs ─▶ sorter ─▶ one atomic hand-over ─▶ lanes ─▶ dispatchers ─▶ destination.Send ─▶ outcomes ─▶ store
//
// Words, used alike in code, configuration, metrics and documents:
//
//	source       who posts: an API key, with a client secret for browsers and a server secret
//	event        what a client posted, with its envelope
//	record       an event as bytes, in the log and in lanes
//	offset       a record's number, in either log
//	log          the durable, short-lived queue between ingest and the sorter; live events and bulk ones have one each
//	intake       a log as the sorter reads it
//	store        what is kept: lanes, dead letters, de-duplication, identities, caches
//	sorter       the one goroutine that reads the logs and runs all that is pure: identity, transform, filter, plan
//	output       what a transform makes of an event for a destination: none, one or several; without one it is the event
//	original     the record of an event as it came, beside an output that a transform has changed
//	$kv          what the transform of a destination keeps between events
//	destination  a remote system, as configured
//	account      a remote account behind a destination; "" where there is just one
//	hub          the remote system's own name of an account, by configuration
//	lane         a FIFO of entries for one destination, hub, account and kind of call
//	stream       the live or the bulk part of a lane, with a window of its own; in the store a lane of its own
//	entry        one thing to deliver
//	key          what orders entries: a person's e-mail for HubSpot
//	block        the entries that one hand-over put in one lane; how lanes are stored
//	window       the part of a lane that its dispatcher holds in memory
//	dispatcher   the goroutine that fills and sends a lane's calls
//	batch        the entries of one call
//	outcome      what became of an entry: delivered, skipped, retry, blocked, dead letter
//	memory       what a destination wants to know of an ID when it next delivers to it
//	dead letter  an entry that can not be delivered, kept whole with the reason
package router
