package main

import (
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/tidwall/gjson"
	"github.com/tidwall/pretty"
	"github.com/tidwall/sjson"

	"eventrouter/pkg/dryrun"
	"eventrouter/pkg/store"
)

// caseText tells what one destination makes of the events of a case, for people to read and to compare line by line. The same configuration and events make the
// same text, whenever and wherever.
type caseText struct {
	destination, typ string
	out, logs        strings.Builder
}

func (t *caseText) heading(heading string) {
	if t.out.Len() > 0 {
		t.out.WriteByte('\n')
	}
	fmt.Fprintln(&t.out, heading)
}

// duplicate tells of an event whose id was there before.
func (t *caseText) duplicate(heading string) {
	t.heading(heading)
	fmt.Fprintln(&t.out, "dropped: its API key has sent an event with this id before")
}

// add tells of the one event of a report.
func (t *caseText) add(heading string, report *dryrun.Report) {
	t.heading(heading)
	for i := range report.Events[0].Destinations {
		res := &report.Events[0].Destinations[i]
		if res.Destination != t.destination {
			continue
		}
		if res.NotFed != "" {
			fmt.Fprintln(&t.out, "not fed:", res.NotFed)
		}
		for _, l := range res.Logs {
			fmt.Fprintf(&t.logs, "%s: %s: %s\n", heading, l.Level, line(l.Text))
		}
		for o := range res.Outputs {
			t.output(&res.Outputs[o], len(res.Outputs))
		}
	}
	for i := range report.Requests {
		if report.Requests[i].Destination == t.destination && !t.reads(&report.Requests[i]) {
			t.request(&report.Requests[i])
		}
	}
}

// reads says of a request that it only finds out what is there: whether it is made depends on what is remembered.
func (t *caseText) reads(r *dryrun.Request) bool {
	return t.typ == "hubspot" && strings.Contains(r.URL, "/batch/read")
}

// output tells what becomes of one output, of so many.
func (t *caseText) output(o *dryrun.Output, of int) {
	if of > 1 {
		fmt.Fprintf(&t.out, "output %d: %s\n", o.Index, line(gjson.GetBytes(o.Event, "event_type").String()))
	}
	if len(o.Deliveries) == 0 {
		fmt.Fprintln(&t.out, outcomeText(o.Status, o.Reason, o.Error))
	}
	for i := range o.Deliveries {
		d := &o.Deliveries[i]
		if d.Status == dryrun.Known { // and so nothing to tell
			continue
		}
		fmt.Fprintf(&t.out, "%s: %s\n", d.Lane, outcomeText(d.Status, d.Reason, d.Error))
		t.detail(d.Detail)
	}
}

// outcomeText is an outcome in words.
func outcomeText(status store.Status, reason, text string) string {
	words, ok := map[store.Status]string{
		store.Dead: "dead letter", dryrun.Retry: "tried again later", dryrun.NotSent: "sent, if it could be simulated",
	}[status]
	if !ok {
		words = string(status)
	}
	if reason = strings.TrimPrefix(reason, "filter: "); reason != "" && !strings.HasPrefix(text, reason) {
		words += ": " + line(reason)
	}
	if text = strings.TrimPrefix(text, "blocked: "); text != "" {
		first, _, _ := strings.Cut(text, "\n") // a stack that follows differs with every build
		words += ": " + line(first)
	}
	return words
}

// told are the members of a detail that the request itself does not show.
var told = []string{"stripped", "coerced", "collided", "cut"}

func (t *caseText) detail(data []byte) {
	if !gjson.ValidBytes(data) {
		return
	}
	for _, l := range detailLabels {
		if v := gjson.GetBytes(data, l.member); v.Exists() && slices.Contains(told, l.member) {
			fmt.Fprintf(&t.out, "  %s %s\n", l.label, plain(v))
		}
	}
}

// request shows a request: its address, those headers that the configuration makes, and its body, one member a line.
func (t *caseText) request(r *dryrun.Request) {
	fmt.Fprintf(&t.out, "\n  %s %s", r.Method, line(r.URL))
	if r.Status >= http.StatusMultiStatus {
		fmt.Fprintf(&t.out, " → %d", r.Status)
	}
	t.out.WriteByte('\n')
	for _, h := range r.Headers {
		if !usualHeader(h.Name) {
			fmt.Fprintf(&t.out, "  %s: %s\n", line(h.Name), line(h.Value))
		}
	}
	body := r.Text
	if r.Body != nil {
		body = prettyBody(t.typ, r.Body)
	}
	for text := range strings.Lines(body) {
		fmt.Fprintln(&t.out, strings.TrimRight("  "+strings.TrimSuffix(text, "\n"), " \r"))
	}
}

// usualHeader says of a header that every request has it, or that it differs with every call.
func usualHeader(name string) bool {
	switch name {
	case "Accept", "Accept-Encoding", "Authorization", "Content-Length", "User-Agent", "Webhook-Id", "Webhook-Timestamp":
		return true
	}
	return false
}

// prettyBody is JSON, a member a line and sorted by name: in which order they are sent means nothing, and may change with a script that makes the same of an event.
// Of HubSpot's calls it is without the ids that the router draws or derives for each input.
func prettyBody(typ string, body []byte) string {
	if typ == "hubspot" {
		for i := range gjson.GetBytes(body, "inputs").Array() {
			for _, name := range [...]string{"objectWriteTraceId", "uuid"} {
				if shorter, err := sjson.DeleteBytes(body, fmt.Sprintf("inputs.%d.%s", i, name)); err == nil {
					body = shorter
				}
			}
		}
	}
	return string(pretty.PrettyOptions(body, &pretty.Options{Width: 80, Indent: "  ", SortKeys: true}))
}
