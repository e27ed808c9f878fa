package torture

import (
	"fmt"
	"strings"
	"time"

	"eventrouter/pkg/destinations/hubspot/sandbox"
	"eventrouter/pkg/router"
)

// outcome counts what became of the events of the ledger.
type outcome struct {
	posted, acked, maybes                    int
	delivered, filtered, skipped, dead, late int // late: maybes that came
}

func (o outcome) String() string {
	return fmt.Sprintf("%d events posted, %d acknowledged, %d not (of them %d came), %d delivered, %d filtered, %d skipped, %d dead letters",
		o.posted, o.acked, o.maybes, o.late, o.delivered, o.filtered, o.skipped, o.dead)
}

// verdict holds the ledger against what the sandbox has and the router says.
func (x *torture) verdict(idle string) {
	v := x.evidence()
	all := x.ledger.all()
	x.outcome.posted = len(all)
	for _, e := range all {
		if e.Acked.IsZero() {
			x.outcome.maybes++
		} else {
			x.outcome.acked++
		}
		if fault := x.judge(v, e); fault != "" {
			x.fail(e, "%s", fault)
		}
	}
	for _, p := range persons(all) {
		x.judgePerson(p)
	}
	x.judgeLetters()
	x.judgeLeaks(idle)
	x.p.mu.Lock()
	defer x.p.mu.Unlock()
	for i, line := range x.p.errors {
		if i < 5 {
			x.t.Logf("the router logged an error: %s", line)
		}
	}
}

// judge says what is wrong with what became of an event; "" when nothing is.
func (x *torture) judge(v *evidence, e *entry) string {
	came := len(v.events[e.mark()])
	if came > 1 {
		return fmt.Sprintf("is in HubSpot %d times", came)
	}
	if came == 1 && e.Person != "" && v.events[e.mark()][0].Email != e.Person {
		return "is in HubSpot as an event of " + v.events[e.mark()][0].Email
	}
	state := ""
	if e.ID != "" {
		var fault string
		if state, fault = fate(v.told[e.ID]); fault != "" {
			return fault
		}
		if state == "" {
			state = byOthers(e, v)
		}
	} else if came == 1 {
		state = "delivered"
	} else if e.Kind != track && !e.Acked.IsZero() {
		state = map[kind]string{identify: "delivered", rejected: "delivered", held: "delivered", noise: "filtered", stranger: "skipped", hopeless: "dead_letter"}[e.Kind]
	}
	x.count(e, state)
	may := map[kind]string{
		identify: "delivered", track: "delivered", noise: "filtered", stranger: "skipped", hopeless: "dead_letter",
		boom: "delivered", rejected: "delivered", held: "delivered",
	}[e.Kind]
	switch {
	case state == "" && e.Acked.IsZero():
	case state == "":
		return "was acknowledged and nobody knows of it"
	case !strings.Contains(may, state):
		return fmt.Sprintf("is %s, and ought to be %s", state, may)
	case (e.Kind == track || e.Kind == boom) && (state == "delivered") != (came == 1):
		return fmt.Sprintf("is %s, and HubSpot has it %d times", state, came)
	case e.Kind != track && e.Kind != boom && came > 0:
		return "has come to HubSpot"
	case e.Kind == rejected:
		mended := strings.Replace(e.Person, "@-bad", "@mended", 1)
		if c, ok := x.hub.Contact(mended); ok != (state == "delivered") || ok && c.Properties["seq"] != e.mark() {
			return fmt.Sprintf("is %s, and the contact %s is there: %t, %v", state, mended, ok, c.Properties)
		}
	}
	return ""
}

// count adds an event to the outcome.
func (x *torture) count(e *entry, state string) {
	switch state {
	case "delivered":
		x.outcome.delivered++
	case "filtered":
		x.outcome.filtered++
	case "skipped":
		x.outcome.skipped++
	case "dead_letter":
		x.outcome.dead++
	}
	if state != "" && e.Acked.IsZero() {
		x.outcome.late++
	}
}

// fate is what the router says became of an event; "" when it knows nothing of it. An event with contact that was made for it has two outputs.
func fate(told []router.Receipt) (state, fault string) {
	sorted := 0
	for _, r := range told {
		if r.State == router.ReceiptDuplicate {
			continue
		}
		if sorted++; r.State != router.ReceiptSorted {
			return "", "is " + r.State
		}
		for _, out := range r.Outputs {
			if out.Minimal && out.State == "delivered" {
				continue
			}
			if state != "" && state != out.State {
				return "", fmt.Sprintf("is %s and %s", state, out.State)
			}
			state = out.State
		}
		if state == "" {
			return "", "has no outputs"
		}
	}
	if sorted > 1 {
		return "", fmt.Sprintf("was sorted %d times", sorted)
	}
	return state, ""
}

// person is one contact and the writes to it.
type person struct {
	email  string
	writes []*entry
}

// persons are all whose properties events write, the mended ones apart.
func persons(all []*entry) (of []person) {
	at := map[string]int{}
	for _, e := range all {
		if e.Kind != identify && e.Kind != held {
			continue
		}
		if _, ok := at[e.Person]; !ok {
			at[e.Person] = len(of)
			of = append(of, person{email: e.Person})
		}
		p := &of[at[e.Person]]
		p.writes = append(p.writes, e)
	}
	return of
}

// judgePerson holds a contact against the model: all writes in the order in which they count. Writes whose times overlap may count in either order.
func (x *torture) judgePerson(p person) {
	c, ok := x.hub.Contact(p.email)
	for _, name := range []string{"seq", "plan", "tier"} {
		var first *entry // of the acknowledged ones, that with the latest beginning
		byMark := map[string]*entry{}
		for _, e := range p.writes {
			if !strings.Contains(strings.Join(e.Props, " "), name) {
				continue
			}
			byMark[e.mark()] = e
			if e.Acked.IsZero() {
				continue
			}
			if from, _ := e.span(); first == nil || from.After(mustFrom(first)) {
				first = e
			}
		}
		if first == nil {
			continue
		}
		if !ok {
			x.fail(first, "was delivered, and the contact %s is not there", p.email)
			return
		}
		x.judgeValue(c, name, byMark, first)
	}
}

func mustFrom(e *entry) time.Time {
	from, _ := e.span()
	return from
}

// judgeValue looks at one property: what it ends with, and the order on the way.
func (x *torture) judgeValue(c sandbox.Contact, name string, byMark map[string]*entry, last *entry) {
	has := byMark[c.Properties[name]]
	if has == nil {
		x.fail(last, "the contact's %s is %q, which nobody wrote", name, c.Properties[name])
		return
	}
	if _, to := has.span(); to.Before(mustFrom(last)) {
		x.fail(last, "the contact's %s is %s, of an earlier event: %s", name, has.mark(), history(c, name))
		x.fail(has, "its %s is still there", name)
		return
	}
	var latest *entry // of those before, that with the latest beginning
	for _, w := range c.History[name] {
		e := byMark[w.Value]
		if e == nil {
			x.fail(last, "the contact's %s was %q, which nobody wrote", name, w.Value)
			return
		}
		// What is imported or replayed and counts earlier may come while a later write waits to be sent again: that one goes over it.
		if latest != nil && e.At.IsZero() && e.Kind != held {
			if _, to := e.span(); to.Before(mustFrom(latest)) {
				x.fail(e, "its %s came after that of %d, which counts later: %s", name, latest.N, history(c, name))
				return
			}
		}
		if latest == nil || mustFrom(e).After(mustFrom(latest)) {
			latest = e
		}
	}
}

// history is what a property was given, with times.
func history(c sandbox.Contact, name string) string {
	var s []string
	all := c.History[name]
	for _, w := range all[max(0, len(all)-30):] {
		s = append(s, w.Value+"@"+w.At.UTC().Format("15:04:05.000"))
	}
	return strings.Join(s, " ")
}

// judgeLetters: no dead letters but those that were meant.
func (x *torture) judgeLetters() {
	byID, said := map[string]*entry{}, map[string]bool{}
	for _, e := range x.ledger.all() {
		if e.ID != "" {
			byID[e.ID] = e
		}
	}
	for _, d := range x.letters() {
		e := byID[d.EventID]
		switch {
		case e == nil && d.Reason == "plan" && strings.HasPrefix(d.Person, "nobody-"): // of a client without ids
		case e == nil:
			x.t.Errorf("dead letter %d of event %s, %s of %s, %s: %s", d.ID, d.EventID, d.EventType, d.Person, d.Reason, d.Error)
		case e.Kind != hopeless || d.Reason != "plan":
			x.fail(e, "is a dead letter, %s: %s", d.Reason, d.Error)
		}
		if said[d.EventID] {
			x.t.Errorf("there are two dead letters of event %s", d.EventID)
		}
		said[d.EventID] = true
	}
}

// judgeLeaks: the last process has not more goroutines and files than the first one had at its start, but for what lanes and connections need.
func (x *torture) judgeLeaks(idle string) {
	const slack = 40
	for _, name := range []string{"go_goroutines", "process_open_fds"} {
		var now float64
		for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(200 * time.Millisecond) { // connections of clients end
			now = gauge(x.p.metrics(), name, "")
			if now > 0 && now <= gauge(idle, name, "")+slack || time.Now().After(deadline) {
				break
			}
		}
		before := gauge(idle, name, "")
		x.t.Logf("%s: %v at the first start, %v in the end", name, before, now)
		if now == 0 || now > before+slack {
			x.t.Errorf("%s: %v, at the first start %v", name, now, before)
		}
	}
}
