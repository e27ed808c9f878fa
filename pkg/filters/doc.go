// Package filters decides which events go to a destination, and in what form: conditions without code ([Match]), transforms ([Transform]) and data_layout.table_name_template
// ([Filter]). In Jitsu that names the table that an event goes to; here there are no tables, and what matters is that an event whose name comes out empty, null or false does
// not go to the destination.
//
//	event ─the members that it names─▶ template ─▶ text ─▶ table name ─▶ keep, or skip when it is "", "null" or "false"
//
// A template that contains {{ is in Go's text/template language, a plain or quoted name is a constant, everything else is JavaScript:
// an expression, or statements with return. What people use it for:
//
//	keep                 Go                                                                    JavaScript
//	all but page views   {{if ne .event_type "pageview"}}{{.event_type}}{{end}}                $.event_type == "pageview" ? "" : $.event_type
//	two types            {{if or (eq .event_type "a") (eq .event_type "b")}}x{{end}}           ["a", "b"].includes($.event_type) && "x"
//	                     {{if eq .event_type "a" "b"}}x{{end}}
//	known e-mail         {{if and .user .user.email}}yes{{end}}                                $.user?.email
//	numbers              {{if gt .price 10}}big{{end}}                                         $.price > 10 && "big"
//	first value found    {{get . "/user/email||/email" ""}}                                    get($, "/user/email||/email", "")
//	odd names            {{index . "Name With Space"}}                                         $["Name With Space"]
//	a name per month     {{.event_type}}_{{._timestamp.Format "2006_01"}}                      `${$.event_type}_${$._timestamp.Format("2006_01")}`
//	by steps                                                                                   if ($.event_type == "signup") { if (!$.ids?.ga) { return "new" } } return ""
//	everything           events (a constant)
//
// In Go templates, {{if .price}} asks whether there is a price: numbers are kept as the client wrote them, and even 0 is something.
// {{if ne .price 0}} asks for the number.
//
// [CompileTransform] is for data_layout.transform, a script that makes of an event none, one or several others, before the filters see them:
//
//	event ─AppendView─▶ script ─▶ object, list or null ─[event.Event.Changed]─▶ events
//
// It also has $kv, toSegment and a console that prints. The event is an object whose members become values of the engine only when the script asks for them, and so is a copy,
// {...$, plan: "pro"}: what the script does not look at leaves it as it came, byte for byte.
//
// In JavaScript, `$`, `_` and `event` are the event, an object of the script's own. Beside the language there are get, json, json_indent,
// json_indent_quote, destinationId, destinationType, TABLE_NAME, $context, which knows the request's headers, and console, which prints only in transforms. There are no modules, network,
// files, environment or timers, and nothing but $kv is kept between events.
//
// What is wrong with a template is found when it is compiled, names that nobody declares included. When it runs, reading a field of something that the
// event does not have means skip; every other failure is an error, which sends the event to the dead letters.
//
// Most templates only look at members and compare. They are closures over the event's JSON (jsdirect.go, godirect.go), which leave to the engine of their language what they
// can not tell; tests on generated templates and events hold the two to the same results.
//
// [CompileValue] is for expressions that make one value, a property of a contact for example. The languages are the same; what differs is that the
// result is not made a name: scripts keep their JSON types, templates print text, and what does not exist is absent, not null.
//
// A template has 20 ms, and bounds on the size of what it builds. They stop accidents (an endless loop, a regular expression
// that a client's text sends into backtracking). They are no sandbox for scripts of strangers.
package filters
