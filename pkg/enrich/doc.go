// Package enrich finds out what an event does not say itself: where its address is, and what program and device its user agent names.
//
//	source_ip ──▶ MaxMind databases ─▶ location ┐
//	                                            ├─▶ event.Added, seen by filters and expressions; or by a rule into the event's JSON
//	user_agent ─▶ uap-core's patterns ─▶ parsed_ua ┘
//
// Databases are read by maxminddb-golang, the reader that geoip2-golang is made of: it decodes the records of all of MaxMind's databases into one struct,
// where geoip2-golang has a type for each.
//
// For user agents, filters that were written for Jitsu compare with the names of uap-core ("Mobile Safari", "Mac OS X", brand "Apple"). Compared in
// November 2026, in microseconds of one processor for each unknown user agent of a web site's mix:
//
//	ua-parser/uap-go   May 2026        1,900   uap-core's names, brand and model
//	mileusna/useragent September 2024      2   "Safari", "macOS"; no brand, models of some
//	mssola/useragent   February 2023       1   the same; "iPhone OS"
//	this package       uap-go's data      70   as uap-go
//
// Only uap-go gives the names, and its definitions are the ones that are kept up. But it holds every user agent against up to 1,200 expressions, which it
// compiles at start (75 ms, 12 MB). So its definitions are used with an engine of our own: an expression is compiled and tried only if the user agent
// holds one of the texts that each of its matches must hold. A test holds the results to those of the library.
//
// What is parsed is remembered, its length and the number of expressions are bounded, and so is the part of the time that unknown user agents may take.
package enrich
