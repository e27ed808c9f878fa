package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/tidwall/gjson"

	"eventrouter/pkg/filters"
	"eventrouter/pkg/router"
	"eventrouter/pkg/store"
)

// writeExplanation tells an explanation in plain words, a block for each destination and lane.
func writeExplanation(out io.Writer, x *router.Explanation) error {
	t := &teller{}
	what := "event " + line(x.EventID)
	if x.EventID == "" {
		what = "the last events of " + line(x.Person)
	}
	if x.Account != "" {
		what += ", in account " + line(x.Account)
	}
	t.printf("%s", what)
	for i := range x.Receipts {
		t.receipt(&x.Receipts[i], x)
	}
	for _, note := range x.Notes {
		t.printf("")
		t.wrap("", line(note))
	}
	_, err := io.WriteString(out, t.b.String())
	return err
}

// Columns of the text.
const (
	labelIndent = "    "
	labelWidth  = 13
	textWidth   = 120
)

// teller writes text for people.
type teller struct{ b strings.Builder }

func (t *teller) printf(format string, args ...any) {
	fmt.Fprintf(&t.b, format+"\n", args...)
}

// item writes a labelled line, or several when the text is long.
func (t *teller) item(label, text string) {
	if text == "" {
		return
	}
	t.wrap(labelIndent+label+strings.Repeat(" ", max(1, labelWidth-len(label))), text)
}

// wrap writes text behind head, broken at spaces; what follows stands below its beginning.
func (t *teller) wrap(head, text string) {
	indent := strings.Repeat(" ", len(head))
	used := utf8.RuneCountInString(head)
	t.b.WriteString(head)
	for i, word := range strings.Fields(text) {
		n := utf8.RuneCountInString(word)
		switch {
		case i == 0:
		case used+1+n > textWidth:
			t.b.WriteString("\n" + indent)
			used = len(indent)
		default:
			t.b.WriteByte(' ')
			used++
		}
		t.b.WriteString(word)
		used += n
	}
	t.b.WriteByte('\n')
}

const tellTime = "2006-01-02 15:04:05.000 UTC"

func at(t time.Time) string { return t.UTC().Format(tellTime) }

// receipt tells of a receipt what x does not say already in its title.
func (t *teller) receipt(r *router.Receipt, x *router.Explanation) {
	t.printf("")
	what := cmp.Or(line(r.EventType), "an event without a type")
	if x.EventID == "" {
		what += ", id " + line(r.EventID)
	}
	if r.Person != "" && r.Person != x.Person {
		what += ", of " + line(r.Person)
	}
	t.wrap("", fmt.Sprintf("received %s with API key %s: %s", at(r.Received), line(r.APIKey), what))
	switch r.State {
	case router.ReceiptDuplicate:
		t.printf("  a duplicate: this API key had sent an event with this id before; the copy was dropped")
	case router.ReceiptUnrouted:
		t.printf("  this API key feeds no destination (only_tokens): the event was accepted and goes nowhere")
	case router.ReceiptUnsorted:
		t.printf("  accepted, and not sorted yet")
	}
	for i := range r.Outputs {
		t.output(&r.Outputs[i])
	}
}

func (t *teller) output(o *router.Output) {
	head := cmp.Or(o.Destination, "before any destination")
	if o.Lane != "" {
		head += ", " + o.Lane
	}
	var of []string
	if o.Hub != "" {
		of = append(of, leadsTo(o.Hub))
	}
	if o.Account != "" {
		of = append(of, "account "+o.Account)
	}
	if o.Index > 0 {
		of = append(of, fmt.Sprintf("output %d", o.Index))
	}
	if len(of) > 0 {
		head += " (" + strings.Join(of, ", ") + ")"
	}
	t.printf("\n  %s", line(head))
	switch what := line(o.EventType); {
	case what != "" && o.Person != "":
		t.item("output", what+", of "+line(o.Person))
	case what != "" || o.Person != "":
		t.item("output", cmp.Or(what, "of "+line(o.Person)))
	}
	t.became(o)
	if o.Replays > 0 {
		t.item("replayed", count(o.Replays, "time"))
	}
	if f := o.Before; f != nil {
		t.item("before", "it was a dead letter from "+at(f.Settled)+": "+line(f.Reason)+", "+line(f.Error))
	}
	t.detail(o.Detail)
}

// became tells where an output is, or what became of it.
func (t *teller) became(o *router.Output) {
	settled := ""
	if o.Settled != nil {
		settled = at(*o.Settled) + ", " + time.Duration(o.LatencySeconds*float64(time.Second)).Round(time.Millisecond).String() + " after receipt"
	}
	attempts := ""
	if o.Attempts > 0 {
		attempts = ", " + count(o.Attempts, "attempt")
	}
	switch store.Status(o.State) {
	case store.Delivered:
		if o.Minimal {
			settled += ", only to have a contact for the event"
		}
		t.item("delivered", settled+attempts)
	case store.Filtered:
		switch o.Reason {
		case "":
			t.item("filtered", settled+", by the destination's table_name_template")
		case filters.LacksMember:
			t.item("filtered", settled+", by the destination's transform or table_name_template")
			t.item("because", "that "+o.Reason+"; to go on with nothing instead, write ?. as in $.user?.email")
		default:
			t.item("filtered", settled)
			t.item("because", line(o.Reason))
		}
	case store.Skipped:
		t.item("skipped", settled+": "+line(o.Reason))
		t.item("because", skipMeans[o.Reason])
	case store.Dead:
		letter := ""
		if o.DeadLetter != 0 {
			letter = fmt.Sprintf(", number %d", o.DeadLetter)
		}
		t.item("dead letter", settled+attempts+letter)
		t.item("reason", line(o.Reason))
		t.item("error", line(o.Error))
		if o.ToReplay {
			t.item("replay", "it waits to be sent again")
		}
		t.item("problem", line(o.Problem))
	case store.Dropped:
		t.item("dropped", settled)
		t.item("because", "the dead letter was "+line(o.Reason))
	default:
		t.waiting(o, attempts)
	}
}

// leadsTo names where a lane leads: the hub by its number, an endpoint by its URL.
func leadsTo(hub string) string {
	if strings.Contains(hub, "://") {
		return hub
	}
	return "hub " + hub
}

// skipMeans says in a sentence what a reason means.
var skipMeans = map[string]string{
	"no identity":                 "it has no e-mail (or what id_property names), and none is known for the ids of its user",
	"excluded event type":         "events.only or events.except leaves out its type; a user_identify writes the contact all the same",
	"undefined event name":        "HubSpot has no event of this name, and the router may not make one (events.create, events.define and their limits)",
	"no tier or scope":            "the account or its token may not have custom events: it was older than events.hold, or a customer has not granted the scopes",
	"no room for a definition":    "the account has as many event definitions as HubSpot allows",
	"no account":                  "neither a token nor its API key says of which customer's account it is, nor what the destination's `account` reads",
	"switched off by the account": "the people of the account have switched it off, on the connect page",
}

func (t *teller) waiting(o *router.Output, attempts string) {
	w := o.Waiting
	if w == nil {
		t.item(o.State, strings.TrimPrefix(attempts, ", "))
		return
	}
	if o.State == router.OutputInFlight {
		t.item("in flight", line(w.Why)+attempts)
	} else {
		t.item("waiting", line(w.Why)+attempts)
		if w.Before > 0 {
			t.item("before it", count(int(w.Before), "other")+" in the lane")
		}
	}
	if w.NextAttempt != nil && (w.LaneNextTry == nil || !w.LaneNextTry.Equal(*w.NextAttempt)) {
		t.item("next attempt", at(*w.NextAttempt))
	}
	if w.GivesUp != nil {
		t.item("until", at(*w.GivesUp)+", then it is a dead letter, unless the account connects before (unknown_account_ttl)")
	}
	t.item("last error", line(w.LastError))
	if w.LaneState != "" && w.LaneState != router.Flowing {
		text := string(w.LaneState)
		if w.LaneSince != nil {
			text += " since " + at(*w.LaneSince)
		}
		if w.LaneNextTry != nil {
			text += ", next try " + at(*w.LaneNextTry)
		}
		t.item("lane", text)
		t.item("because", line(w.LaneReason))
	}
}

// detailLabels are the members of a Detail that have a name of their own here, in their order. Others follow.
var detailLabels = []struct{ member, label string }{
	{"contact_id", "contact"},
	{"event", "event"},
	{"uuid", "uuid"},
	{"written", "written"},
	{"stripped", "left out"},
	{"coerced", "converted"},
	{"collided", "collided"},
	{"cut", "cut short"},
	{"merged", "merged"},
	{"correlation_id", "correlation"},
}

// detail tells a destination's own account of a delivery.
func (t *teller) detail(data []byte) {
	if !gjson.ValidBytes(data) {
		return
	}
	d := gjson.ParseBytes(data)
	told := map[string]bool{"new": true, "repeated": true}
	for _, l := range detailLabels {
		v := d.Get(l.member)
		told[l.member] = true
		text := plain(v)
		switch {
		case !v.Exists():
			continue
		case l.member == "contact_id" && d.Get("new").Bool():
			text += ", new"
		case l.member == "contact_id" && d.Get("new").Exists():
			text += ", was there"
		case l.member == "uuid" && d.Get("repeated").Bool():
			text += ", HubSpot had it already"
		case l.member == "merged" && v.Int() > 1:
			text = fmt.Sprintf("%d writes in one", v.Int())
		case l.member == "merged":
			continue
		}
		t.item(l.label, text)
	}
	d.ForEach(func(k, v gjson.Result) bool {
		if !told[k.Str] {
			t.item(strings.ReplaceAll(line(k.Str), "_", " "), plain(v))
		}
		return true
	})
}

// plain is a value of a Detail without JSON's marks.
func plain(v gjson.Result) string {
	var parts []string
	switch {
	case v.IsArray():
		v.ForEach(func(_, item gjson.Result) bool { parts = append(parts, plain(item)); return true })
	case v.IsObject():
		v.ForEach(func(k, item gjson.Result) bool { parts = append(parts, line(k.Str)+": "+plain(item)); return true })
		slices.Sort(parts)
	default:
		return line(v.String())
	}
	return strings.Join(parts, ", ")
}
