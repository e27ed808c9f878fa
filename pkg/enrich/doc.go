// Package enrich finds out what an event does not say itself: where its address is, and what program and device its user agent names.
package enrich
