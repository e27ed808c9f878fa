package dryrun

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"eventrouter/pkg/destinations"
	"eventrouter/pkg/redact"
	"eventrouter/pkg/router"
	"eventrouter/pkg/store"
)

// maxAttempts is how often an entry is tried that is to be tried again: the stand-in answers at once what a remote would in a while.
const maxAttempts = 3

// lane holds what waits for one kind of call.
type lane struct {
	spec    *destinations.LaneSpec
	entries []entry
}

// entry is a lane entry, with where it is told of.
type entry struct {
	destinations.Entry
	event, output, delivery int // places in the report
}

// enter makes the lane entries of a decision.
func (p *playing) enter(t *target, place, output int, d *router.Decision, res *Result) {
	out := &res.Outputs[output]
	for i := range d.Plans {
		plan := &d.Plans[i]
		at := slices.IndexFunc(t.lanes, func(l *lane) bool { return l.spec.Name == plan.Lane })
		if at < 0 {
			out.Status, out.Reason, out.Error = store.Dead, "plan", fmt.Sprintf("BUG: it plans for lane %q, which it does not have", plan.Lane)
			return
		}
		l := t.lanes[at]
		made := Delivery{Lane: plan.Lane, Account: plan.Account, Person: p.s.opts.Redact.Person(plan.Key), Status: NotSent}
		if !p.s.reader.Enters(&t.route, l.spec, plan) {
			made.Status, made.Reason = Known, "the router has made this contact before"
		} else if t.played {
			l.entries = append(l.entries, entry{
				Entry: destinations.Entry{
					Name: destinations.OutputName{Offset: uint64(place), Destination: t.route.Name, Index: d.Index},
					Plan: *plan, Event: d.Event, Attempt: 1,
				},
				event: place, output: output, delivery: len(out.Deliveries),
			})
		}
		out.Deliveries = append(out.Deliveries, made)
	}
}

// deliver empties a lane. Its error is ctx's.
func (p *playing) deliver(ctx context.Context, i int, t *target, l *lane) error {
	for len(l.entries) > 0 {
		if err := ctx.Err(); err != nil {
			l.entries = nil
			return err
		}
		batch := l.next()
		outcomes := p.send(ctx, t, l, batch)
		if err := ctx.Err(); err != nil { // what it cut short says nothing
			l.entries = nil
			return err
		}
		numbers := p.recorded(t, l, batch)
		var again []entry
		for n := range batch {
			e := &batch[n]
			made := &p.r.Events[e.event].Destinations[i].Outputs[e.output].Deliveries[e.delivery]
			made.Requests = append(made.Requests, numbers...)
			if made.told(outcomes[n]); made.Status == Retry && e.Attempt < maxAttempts {
				e.Attempt++
				again = append(again, *e)
			}
			if outcomes[n].Err == nil && outcomes[n].Memory != nil {
				t.memories[memoryName{e.Plan.Account, l.spec.Name, e.Plan.ID}] = outcomes[n].Memory
			}
		}
		l.entries = append(again, l.entries...)
	}
	return nil
}

// next takes the entries of the next call: the oldest one, and those that may go with it.
func (l *lane) next() (batch []entry) {
	ids, left, size := map[string]string{}, l.entries[:0:0], 0 // key: id
	for i, e := range l.entries {
		id, has := ids[e.Plan.Key]
		bytes := len(e.Event.JSON)
		fits := len(batch) == 0 || e.Plan.Account == batch[0].Plan.Account && e.Attempt == batch[0].Attempt &&
			(!has || e.Plan.Key == "" || id == e.Plan.ID) &&
			(has || l.spec.MaxKeys == 0 || len(ids) < l.spec.MaxKeys) &&
			(l.spec.MaxEntries == 0 || len(batch) < l.spec.MaxEntries) &&
			(l.spec.MaxBytes == 0 || size+bytes <= l.spec.MaxBytes)
		if !fits { // what comes behind it stays behind it
			left = append(left, l.entries[i:]...)
			break
		}
		ids[e.Plan.Key] = e.Plan.ID
		size += bytes
		batch = append(batch, e)
	}
	l.entries = left
	return batch
}

// send is one call of the destination.
func (p *playing) send(ctx context.Context, t *target, l *lane, batch []entry) (outcomes []destinations.Outcome) {
	all := func(err error) []destinations.Outcome {
		outcomes := make([]destinations.Outcome, len(batch))
		for i := range outcomes {
			outcomes[i].Err = err
		}
		return outcomes
	}
	defer func() {
		if r := recover(); r != nil {
			outcomes = all(destinations.Reject(fmt.Errorf("panic: %v", r)))
		}
	}()
	sent := make([]destinations.Entry, len(batch))
	for i, e := range batch {
		if sent[i] = e.Entry; l.spec.Remembers {
			sent[i].Memory = t.memories[memoryName{e.Plan.Account, l.spec.Name, e.Plan.ID}]
		}
	}
	permit, err := t.route.Destination.Acquire(ctx, batch[0].Plan.Account, l.spec.Name)
	if err != nil {
		return all(err)
	}
	defer permit.Release()
	if outcomes = t.route.Destination.Send(ctx, permit, sent); len(outcomes) != len(batch) {
		return all(fmt.Errorf("BUG: %d outcomes of %d entries", len(outcomes), len(batch)))
	}
	return outcomes
}

// recorded puts the requests of a call into the report and returns their numbers.
func (p *playing) recorded(t *target, l *lane, batch []entry) (numbers []int) {
	var events []int
	for i := range batch {
		if !slices.Contains(events, batch[i].event) {
			events = append(events, batch[i].event)
		}
	}
	for _, call := range t.recorder.take() {
		call.Number, call.Destination, call.Lane, call.Events = len(p.r.Requests)+1, t.route.Name, l.spec.Name, events
		p.r.Requests = append(p.r.Requests, call)
		numbers = append(numbers, call.Number)
	}
	return numbers
}

// told notes an outcome.
func (d *Delivery) told(o destinations.Outcome) {
	d.Detail, d.Reason, d.Error = o.Detail, "", ""
	reason, skipped := destinations.IsSkip(o.Err)
	_, rejected := errors.AsType[*destinations.RejectError](o.Err)
	_, blocked := errors.AsType[*destinations.BlockError](o.Err)
	switch {
	case o.Err == nil:
		d.Status = store.Delivered
	case skipped:
		d.Status, d.Reason = store.Skipped, reason
	case rejected:
		d.Status, d.Reason = store.Dead, "rejected"
	case blocked:
		d.Status = Blocked
	default:
		d.Status = Retry
	}
	if o.Err != nil && !skipped {
		d.Error = o.Err.Error()
	}
}

// worst orders statuses of deliveries: an output has that of the worst.
var worst = []store.Status{Known, store.Delivered, NotSent, store.Skipped, Retry, Blocked, store.Dead}

// settle gives outputs the status of their deliveries, and hides what is not to be shown.
func (p *playing) settle() {
	for i := p.first; i < len(p.r.Events); i++ {
		for _, res := range p.r.Events[i].Destinations {
			for o := range res.Outputs {
				res.Outputs[o].settle()
			}
		}
	}
	if len(p.values) > 0 {
		p.hide(p.values)
	}
}

func (o *Output) settle() {
	for _, d := range o.Deliveries {
		if slices.Index(worst, d.Status) > slices.Index(worst, o.Status) {
			o.Status, o.Reason, o.Error = d.Status, d.Reason, d.Error
		}
	}
}

// hide takes values out of what this hand-over has added to the report.
func (p *playing) hide(vs redact.Values) {
	for i := p.first; i < len(p.r.Events); i++ {
		ev := &p.r.Events[i]
		ev.ID, ev.Type = vs.Text(ev.ID), vs.Text(ev.Type)
		for _, res := range ev.Destinations {
			for l := range res.Logs {
				res.Logs[l].Text = vs.Text(res.Logs[l].Text)
			}
			for o := range res.Outputs {
				out := &res.Outputs[o]
				out.ID, out.Error, out.Event = vs.Text(out.ID), vs.Text(out.Error), vs.Detail(out.Event)
				for d := range out.Deliveries {
					made := &out.Deliveries[d]
					made.Person, made.Error, made.Detail = vs.Text(made.Person), vs.Text(made.Error), vs.Detail(made.Detail)
				}
			}
		}
	}
	for i := range p.r.Requests {
		req := &p.r.Requests[i]
		req.URL, req.Text, req.Answer, req.Body = vs.Text(req.URL), vs.Text(req.Text), vs.Text(req.Answer), vs.Detail(req.Body)
		for h := range req.Headers {
			req.Headers[h].Value = vs.Text(req.Headers[h].Value)
		}
	}
}
