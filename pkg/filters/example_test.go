package filters_test

import (
	"fmt"

	"eventrouter/pkg/event"
	"eventrouter/pkg/filters"
)

// show prints what a template makes of some events.
func show(template string, events ...string) {
	f, err := filters.Compile(template, filters.Options{Destination: "crm", Type: "hubspot"})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, json := range events {
		r, err := f.Eval(&event.Event{ID: "1", APIKey: "web", JSON: []byte(json)})
		switch {
		case err != nil:
			fmt.Println("dead letter:", err)
		case r.Keep:
			fmt.Println("keep", r.Name)
		default:
			fmt.Println("skip")
		}
	}
}

func Example_dropPageViews() {
	events := []string{`{"event_type":"pageview"}`, `{"event_type":"Signed Up"}`, `{}`}
	show(`{{if eq .event_type "pageview"}}{{else}}{{.event_type}}{{end}}`, events...)
	show(`$.event_type == "pageview" ? "" : $.event_type`, events...)
	// Output:
	// skip
	// keep signed_up
	// skip
	// skip
	// keep signed_up
	// skip
}

func Example_keepTwoTypes() {
	events := []string{`{"event_type":"a"}`, `{"event_type":"b"}`, `{"event_type":"c"}`}
	show(`{{if or (eq .event_type "a") (eq .event_type "b")}}x{{end}}`, events...)
	show(`["a", "b"].includes($.event_type) && "x"`, events...)
	// Output:
	// keep x
	// keep x
	// skip
	// keep x
	// keep x
	// skip
}

func Example_knownEmail() {
	events := []string{`{"user":{"email":"ann@example.com"}}`, `{"user":{"id":"7"}}`, `{}`}
	show(`{{if and .user .user.email}}yes{{end}}`, events...)
	show(`$.user?.email`, events...)
	show(`$.user.email`, events...)
	// Output:
	// keep yes
	// skip
	// skip
	// keep ann_example_com
	// skip
	// skip
	// keep ann_example_com
	// skip
	// skip
}

func Example_perMonth() {
	signup := `{"event_type":"signup","_timestamp":"2020-08-02T18:23:58.057807Z"}`
	show(`{{.event_type}}_{{._timestamp.Format "2006_01"}}`, signup)
	show("`${_.event_type}_${_._timestamp.Format(\"2006_01\")}`", signup)
	// Output:
	// keep signup_2020_08
	// keep signup_2020_08
}

func Example_numbers() {
	events := []string{`{"price":12.5}`, `{"price":9}`, `{}`}
	show(`{{if gt .price 10}}big{{end}}`, events...)
	show(`$.price > 10 && "big"`, events...)
	// Output:
	// keep big
	// skip
	// skip
	// keep big
	// skip
	// skip
}

func Example_firstValueFound() {
	events := []string{`{"user":{"email":"ann@example.com"}}`, `{"email":"bob@example.com"}`, `{}`}
	show(`{{get . "/user/email||/email" ""}}`, events...)
	show(`get($, "/user/email||/email", "")`, events...)
	// Output:
	// keep ann_example_com
	// keep bob_example_com
	// skip
	// keep ann_example_com
	// keep bob_example_com
	// skip
}

func Example_conversionsWithoutGoogleAnalytics() {
	events := []string{
		`{"event_type":"conversion","eventn_ctx":{"ids":{}}}`, `{"event_type":"conversion","eventn_ctx":{"ids":{"ga":"GA1"}}}`,
		`{"event_type":"pageview"}`,
	}
	show(`{{if and (eq .event_type "conversion") (not .eventn_ctx.ids.ga)}}{{.event_type}}{{end}}`, events...)
	show(`if ($.event_type == "conversion") { if (!$.eventn_ctx?.ids?.ga) { return $.event_type } } return ""`, events...)
	// Output:
	// keep conversion
	// skip
	// skip
	// keep conversion
	// skip
	// skip
}

func Example_oddNames() {
	show(`{{index . "Name With Space"}}`, `{"Name With Space":"x"}`)
	show(`$["Name With Space"]`, `{"Name With Space":"x"}`)
	// Output:
	// keep x
	// keep x
}

func Example_errors() {
	show(`{{if eq event_type "a"}}x{{end}}`)
	show("$.event_type == 'a'\n  && user.email")
	show(`throw new Error("no")`, `{}`)
	// Output:
	// line 1, column 9: function "event_type" not defined; a field begins with a dot, as in {{.event_type}}; the functions are and, call, eq, ge, get, gt, header, html, index, js, json, json_indent, json_indent_quote, le, len, lt, ne, not, or, print, printf, println, slice, urlquery
	// line 2, column 6: user is not defined; write $.user for the event's field, or declare the name with let
	// dead letter: line 1, column 7: Error: no
}

func ExampleFilter_Warnings() {
	f, err := filters.Compile("event.event_type", filters.Options{})
	fmt.Println(f.Format(), f.Warnings(), err)
	// Output:
	// constant ["event.event_type" is a constant table name, not a field: every event is kept; write $.event_type for the field] <nil>
}
