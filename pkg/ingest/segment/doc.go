// Package segment turns the messages of Segment's tracking API into the router's one canonical event. RudderStack's SDKs and the
// second version of Jitsu's post such messages, too.
//
//	{"type":"track","event":"Signed Up","userId":"u1","properties":{"plan":"pro"},"context":{"traits":{"email":…}},…}
//	   └▶ {"event_type":"Signed Up","utc_time":…,"user":{"id":"u1","email":…},"plan":"pro",…,"segment":{the message}}
//
// It works on bytes: numbers keep their digits and members their order. What it is given has been checked before: valid JSON in UTF-8,
// of a nesting that the caller bounds.
package segment
