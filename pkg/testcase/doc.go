// Package testcase reads and rewrites the cases by which people test their configuration: events in, and what each destination is to make of them.
//
// A case is one text file in the txtar format, a comment and sections that each begin with a line `-- name --`:
//
//	Colleagues are not sent.
//
//	-- events.jsonl --
//	@ key=web from=browser
//	{"event_type":"user_identify","user":{"email":"eve@corp.example"}}
//	-- want/crm.txt --
//	event 1: user_identify of eve@corp.example
//	filtered: …
//
// What a destination makes of the events is not known here: a case gives and takes it as text. Rewriting touches nothing but those texts.
package testcase
