package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/tidwall/gjson"

	"eventrouter/pkg/dryrun"
	"eventrouter/pkg/store"
)

// writeDryRun tells in plain words what would become of events, and below it what would be sent.
func writeDryRun(out io.Writer, a *dryrun.Report) error {
	t := &tryTeller{}
	for _, d := range a.Destinations {
		t.destination(&d)
	}
	for i := range a.Events {
		t.event(i, &a.Events[i])
	}
	for _, left := range a.LeftOut {
		t.printf("\nleft out of the batch: %s", line(left))
	}
	if len(a.Requests) > 0 {
		t.printf("\nrequests")
	}
	for i := range a.Requests {
		t.request(&a.Requests[i])
	}
	_, err := io.WriteString(out, t.b.String())
	return err
}

// tryTeller writes text for people.
type tryTeller struct{ teller }

func (t *tryTeller) destination(d *dryrun.Destination) {
	text := fmt.Sprintf("%s (%s)", line(d.Name), d.Type)
	if d.Staged {
		text += ", staged: gets nothing yet"
	}
	if d.Schema != "" {
		text += "; schema: " + line(d.Schema)
	}
	t.printf("%s", text)
	for _, note := range d.Notes {
		t.wrap("  note: ", line(note))
	}
}

func (t *tryTeller) event(i int, ev *dryrun.Event) {
	kind := ev.Type
	if kind == "" {
		kind = "without a type"
	}
	t.printf("\nevent %d: %s, id %s, API key %s", i+1, line(kind), line(ev.ID), line(ev.APIKey))
	if ev.Email != "" {
		t.printf("  e-mail remembered of its ids: %s", line(ev.Email))
	}
	if ev.Duplicate {
		t.wrap("  ", "an event with this id has come before: the router would drop it as a duplicate; what follows is what would be otherwise")
	}
	for j := range ev.Destinations {
		t.result(&ev.Destinations[j])
	}
}

func (t *tryTeller) result(r *dryrun.Result) {
	if r.NotFed != "" {
		t.printf("  %s: not fed", line(r.Destination))
		t.item("why", line(r.NotFed))
		return
	}
	for i := range r.Outputs {
		o := &r.Outputs[i]
		name := line(r.Destination)
		if len(r.Outputs) > 1 {
			name += fmt.Sprintf(", output %d", r.Outputs[i].Index)
		}
		t.printf("  %s: %s", name, verdicts[o.Status])
		if i == 0 {
			for _, l := range r.Logs {
				t.item("console", l.Level+": "+line(l.Text))
			}
		}
		t.output(o)
	}
}

// verdicts say what would become of an output.
var verdicts = map[store.Status]string{
	store.Delivered: "delivered",
	store.Filtered:  "filtered: not sent",
	store.Skipped:   "skipped: not sent",
	store.Dead:      "dead letter",
	dryrun.Retry:    "tried again later",
	dryrun.Blocked:  "waits: its lane is blocked",
	dryrun.Known:    "nothing to send",
	dryrun.NotSent:  "sent; the destination can not be simulated",
}

func (t *tryTeller) output(o *dryrun.Output) {
	t.item("why", line(reasonWords(o.Reason)))
	t.item("because", skipMeans[o.Reason])
	t.lines("error", o.Error)
	if o.Unidentified {
		t.item("note", "it is not known whose event it is; the router looks once more after three seconds")
	}
	if o.Changed {
		t.lines("becomes", string(o.Event))
	}
	for i := range o.Deliveries {
		t.delivery(&o.Deliveries[i])
	}
}

// lines writes a text with its own lines, such as an error with the place in a script.
func (t *tryTeller) lines(label, text string) {
	for i, l := range strings.Split(strings.TrimRight(text, "\n"), "\n") {
		if l = line(l); l == "" {
			continue
		}
		if i > 0 {
			label = ""
		}
		t.printf("%s", strings.TrimRight(labelIndent+label+strings.Repeat(" ", max(1, labelWidth-len(label)))+l, " "))
	}
}

func reasonWords(reason string) string {
	switch reason {
	case "transform":
		return "the transform failed"
	case "filter":
		return "the filter failed"
	case "plan":
		return "the event can not be delivered"
	case "rejected":
		return "the destination would refuse it"
	}
	return reason
}

func (t *tryTeller) delivery(d *dryrun.Delivery) {
	text := line(d.Lane)
	if name := gjson.GetBytes(d.Detail, "event").String(); name != "" {
		text += " " + line(name)
	}
	if d.Person != "" {
		text += " of " + line(d.Person)
	}
	if d.Status != store.Delivered {
		text += ": " + verdicts[d.Status]
		if d.Reason != "" {
			text += ", " + line(reasonWords(d.Reason))
		}
	}
	if merged := gjson.GetBytes(d.Detail, "merged").Int(); merged > 1 {
		text += fmt.Sprintf(", merged from %d writes", merged)
	}
	if len(d.Requests) > 0 {
		text += ", " + requestNumbers(d.Requests)
	}
	t.item("lane", text)
	t.properties(d.Detail)
}

func requestNumbers(numbers []int) string {
	var all []string
	for _, n := range numbers {
		all = append(all, fmt.Sprint(n))
	}
	if len(all) == 1 {
		return "request " + all[0]
	}
	return "requests " + strings.Join(all, ", ")
}

// properties writes a table of what is written and what is left out.
func (t *tryTeller) properties(detail json.RawMessage) {
	values, stripped := gjson.GetBytes(detail, "values"), gjson.GetBytes(detail, "stripped")
	var b bytes.Buffer
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "%sPROPERTY\tFROM\tTO\t\n", tableIndent)
	coerced := gjson.GetBytes(detail, "coerced")
	rows := 0
	values.ForEach(func(name, v gjson.Result) bool {
		rows++
		fmt.Fprintf(w, "%s%s\t%s\t%s\t%s\n", tableIndent, cell(name.String()), shownFrom(v.Get("from")), cell(v.Get("to").String()), madeOf(member(coerced, name.String())))
		return true
	})
	stripped.ForEach(func(name, reason gjson.Result) bool {
		if member(values, name.String()).Exists() { // only some of its options are left out
			return true
		}
		rows++
		fmt.Fprintf(w, "%s%s\t\tleft out\t%s\n", tableIndent, cell(name.String()), line(reason.String()))
		return true
	})
	_ = w.Flush() // to memory
	if rows == 0 {
		return
	}
	for l := range strings.Lines(b.String()) {
		t.printf("%s", strings.TrimRight(l, " \n"))
	}
}

const tableIndent = "      "

// member is a member of an object by its very name, dots and all.
func member(object gjson.Result, name string) (found gjson.Result) {
	object.ForEach(func(k, v gjson.Result) bool {
		if k.Str == name {
			found = v
		}
		return !found.Exists()
	})
	return found
}

func shownFrom(v gjson.Result) string {
	if !v.Exists() {
		return ""
	}
	return cell(v.Raw)
}

func madeOf(how gjson.Result) string {
	if !how.Exists() {
		return ""
	}
	return "made " + line(how.String())
}

// request writes one request as it would leave.
func (t *tryTeller) request(r *dryrun.Request) {
	events := make([]string, len(r.Events))
	for i, e := range r.Events {
		events[i] = fmt.Sprint(e + 1)
	}
	t.printf("\n%d. %s %s", r.Number, r.Method, line(r.URL))
	t.printf("   %s, %s, of event %s", line(r.Destination), line(r.Lane), strings.Join(events, ", "))
	headers := slices.Clone(r.Headers)
	if r.ContentType != "" {
		headers = append([]dryrun.Header{{Name: "Content-Type", Value: r.ContentType}}, headers...)
	}
	for _, h := range headers {
		t.printf("   %s: %s", line(h.Name), line(h.Value))
	}
	if len(r.Body) > 0 {
		var b bytes.Buffer
		if json.Indent(&b, r.Body, "   ", "  ") == nil {
			t.printf("   %s", b.String())
		}
	}
	t.lines("", r.Text)
	if r.Answer != "" {
		t.printf("   answered %d: %s", r.Status, line(r.Answer))
	}
}
