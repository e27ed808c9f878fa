package hubspot

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"eventrouter/pkg/destinations/hubspot/sandbox"
)

var planProperty = sandbox.Property{
	Name: "plan", Label: "Plan", Type: "enumeration", FieldType: "select", GroupName: "contactinformation",
	Options: []sandbox.Option{{Label: "Pro plan", Value: "pro", Description: "kept", DisplayOrder: 3}, {Label: "Yes", Value: "true"}},
}

func (r *rig) options(property string) (values []string) {
	for _, p := range r.box.Properties() {
		if p.Name == property {
			for _, o := range p.Options {
				values = append(values, o.Value)
			}
		}
	}
	return values
}

// Eight writers that know nothing of each other add options to one property at a time, through reads that lag: all options are there in
// the end, those that were there before too.
func TestOptionWritersLoseNothing(t *testing.T) {
	for _, lag := range []time.Duration{0, 250 * time.Millisecond, 700 * time.Millisecond} {
		t.Run(lag.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, sandbox.Options{Lag: lag, Properties: []sandbox.Property{planProperty}}, "properties: {options: create}\n")
				// Calls take time, so that they overlap.
				r.box.Inject(sandbox.Fault{Endpoint: "properties", Delay: 120 * time.Millisecond})
				want := []string{"pro", "true"}
				began := time.Now()
				var wg sync.WaitGroup
				for i := range 8 {
					writer := r.another()
					var options []string
					for j := range 3 {
						options = append(options, fmt.Sprintf("plan %d-%d", i, j))
					}
					want = append(want, options...)
					wg.Go(func() {
						ps := &permits{d: writer.dest}
						defer ps.release()
						ctx := context.Background()
						s := &contactSend{d: writer.dest, permits: ps}
						var err error
						if s.schema, err = writer.dest.contactSchema(ctx, ps); err != nil {
							t.Error(err)
						}
						for _, option := range options {
							needs := []needOption{{s.schema.find("plan"), []string{option}}}
							for _, err := s.provide(ctx, nil, needs); err != nil; _, err = s.provide(ctx, nil, needs) {
								time.Sleep(waitOf(err)) // as the router does
							}
						}
						if p := s.schema.find("plan"); len(p.options) < 2+len(options) {
							t.Errorf("writer %d knows only %v", i, p.options)
						}
					})
				}
				wg.Wait()
				got := r.options("plan")
				slices.Sort(got)
				slices.Sort(want)
				if diff := cmp.Diff(want, got); diff != "" {
					t.Error(diff)
				}
				if n := r.logs.Count("left out"); n != 0 {
					t.Errorf("some gave up: %s", r.logs)
				}
				t.Logf("took %v, %d reads, %d writes", time.Since(began), r.calls("properties/read", 0), r.calls("properties/update", 0))
			})
		})
	}
}

func (r *rig) provideOptions(property string, options ...string) {
	r.t.Helper()
	ps := &permits{d: r.dest}
	defer ps.release()
	s := &contactSend{d: r.dest, permits: ps}
	var err error
	if s.schema, err = r.dest.contactSchema(context.Background(), ps); err != nil {
		r.t.Fatal(err)
	}
	if _, err := s.provide(context.Background(), nil, []needOption{{s.schema.find(property), options}}); err != nil {
		r.t.Fatal(err)
	}
}

// What is an option in another case, or by its label, or yes for true, is not a new one; what is there stays as it is.
func TestNewOptions(t *testing.T) {
	inBubble(t, sandbox.Options{Properties: []sandbox.Property{planProperty}}, "properties: {options: create, new_options_per_property: 4}\n", func(t *testing.T, r *rig) {
		r.provideOptions("plan", "PRO", "pro PLAN", "yes", "TRUE", " gold ", "Gold", "a;b", "", "x\ny", strings.Repeat("x", 256))
		if got := r.options("plan"); !slices.Equal(got, []string{"pro", "true", "gold"}) {
			t.Errorf("options %q", got)
		}
		for _, p := range r.box.Properties() {
			if p.Name == "plan" && (p.Options[0].Description != "kept" || p.Options[0].DisplayOrder != 3 || p.Options[2].Label != "gold") {
				t.Errorf("options %+v", p.Options)
			}
		}
		before := r.calls("", 0)
		r.provideOptions("plan", "GOLD", "pro")
		if r.calls("", 0) != before {
			t.Error("calls for options that are there")
		}
		r.provideOptions("plan", "a", "b", "c", "d", "e")
		r.restart()
		r.provideOptions("plan", "f")
		if got := r.options("plan"); !slices.Equal(got, []string{"pro", "true", "gold", "a", "b", "c"}) {
			t.Errorf("options beyond the limit: %q", got)
		}
		if !strings.Contains(r.logs.String(), "new_options_per_property: 200") {
			t.Errorf("the log does not say which line to add: %s", r.logs)
		}
	})
}

// Options that HubSpot keeps to itself are left alone, and it is not asked again by every batch.
func TestOptionsThatCannotBeAdded(t *testing.T) {
	fixed := planProperty
	fixed.Name, fixed.ReadOnlyOptions = "fixed", true
	full := planProperty
	full.Name, full.Options = "full", nil
	for i := range maxOptions {
		full.Options = append(full.Options, sandbox.Option{Label: fmt.Sprint(i), Value: fmt.Sprint(i)})
	}
	o := sandbox.Options{Properties: []sandbox.Property{fixed, full}}
	inBubble(t, o, "properties: {options: create}\n", func(t *testing.T, r *rig) {
		for range 3 {
			r.provideOptions("fixed", "gold")
			r.provideOptions("full", "gold")
		}
		if n := r.calls("properties/update", 0); n != 0 || r.calls("properties/read", 0) != 2 {
			t.Errorf("%d writes, %d reads", n, r.calls("properties/read", 0))
		}
		mustDeliver(t, r.run(identify(`{"email":"a@x.co","fixed":"gold","city":"Rome"}`)))
		r.want("a@x.co", map[string]string{"city": "Rome"})
	})
}

// An option that parts of HubSpot do not know for a while is written all the same.
func TestNewOptionLags(t *testing.T) {
	inBubble(t, sandbox.Options{Properties: []sandbox.Property{planProperty}}, "properties: {options: create}\n", func(t *testing.T, r *rig) {
		r.provideOptions("plan", "gold")
		invalid := func(value string) {
			r.box.Inject(sandbox.Fault{
				Endpoint: "contacts/batch/upsert", Times: 5, Status: 400,
				Body:  `{"category":"VALIDATION_ERROR","message":"x","errors":[{"code":"INVALID_OPTION","context":{"propertyName":["plan"]}}]}`,
				Match: func(b []byte) bool { return strings.Contains(string(b), `"plan":"`+value) },
			})
		}
		invalid("gold")
		mustDeliver(t, r.run(identify(`{"email":"a@x.co","plan":"Gold","city":"Rome"}`)))
		r.want("a@x.co", map[string]string{"plan": "gold", "city": "Rome"})
		// Not so one that is no news.
		invalid("pro")
		began := time.Now()
		mustDeliver(t, r.run(identify(`{"email":"b@x.co","plan":"pro","city":"Rome"}`)))
		r.want("b@x.co", map[string]string{"city": "Rome"})
		if time.Since(began) > 0 {
			t.Errorf("waited %v", time.Since(began))
		}
	})
}

// From the event to the contact: options are added to dropdowns and checkboxes, and what can be no option is left out.
func TestUnknownOptionsOfEventsAreMade(t *testing.T) {
	topics := sandbox.Property{
		Name: "topics", Label: "Topics", Type: "enumeration", FieldType: "checkbox", GroupName: "contactinformation",
		Options: []sandbox.Option{{Label: "Art", Value: "art"}},
	}
	o := sandbox.Options{Lag: 700 * time.Millisecond, Properties: []sandbox.Property{planProperty, topics}}
	inBubble(t, o, "properties: {options: create}\n", func(t *testing.T, r *rig) {
		mustDeliver(t, r.run(
			identify(`{"email":"a@x.co","plan":"Gold Plan","topics":["Art","Music & more"]}`),
			identify(`{"email":"b@x.co","plan":"gold plan","topics":";sport","city":"Rome"}`),
			identify(`{"email":"c@x.co","plan":"a;b","city":"Oslo"}`),
		))
		r.want("a@x.co", map[string]string{"plan": "Gold Plan", "topics": "art;Music & more"})
		r.want("b@x.co", map[string]string{"plan": "Gold Plan", "topics": "sport", "city": "Rome"})
		r.want("c@x.co", map[string]string{"city": "Oslo"})
		if got := r.options("plan"); !slices.Equal(got, []string{"pro", "true", "Gold Plan"}) {
			t.Errorf("options %q", got)
		}
	})
}

// Another program that writes an old list over ours takes nothing away, neither ours nor what was there.
func TestOptionsAreRepaired(t *testing.T) {
	inBubble(t, sandbox.Options{Properties: []sandbox.Property{planProperty}}, "properties: {options: create}\n", func(t *testing.T, r *rig) {
		for _, at := range []time.Duration{500 * time.Millisecond, time.Second} {
			time.AfterFunc(at, func() {
				r.http("PATCH", "/crm/v3/properties/contacts/plan", `{"options":[{"label":"Pro plan","value":"pro"},{"label":"Theirs","value":"theirs"}]}`)
			})
		}
		r.provideOptions("plan", "gold")
		got := r.options("plan")
		slices.Sort(got)
		if !slices.Equal(got, []string{"gold", "pro", "theirs", "true"}) {
			t.Errorf("options %q", got)
		}
	})
}

// One that does so for ever makes us give up, for a while.
func TestOptionsThatAreTakenAwayAgain(t *testing.T) {
	inBubble(t, sandbox.Options{Properties: []sandbox.Property{planProperty}}, "properties: {options: create}\n", func(t *testing.T, r *rig) {
		stop := make(chan struct{})
		var wg sync.WaitGroup
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				case <-time.After(500 * time.Millisecond):
					r.http("PATCH", "/crm/v3/properties/contacts/plan", `{"options":[{"label":"Pro plan","value":"pro"}]}`)
				}
			}
		})
		mustDeliver(t, r.run(identify(`{"email":"a@x.co","plan":"gold","city":"Rome"}`)))
		began := time.Now()
		mustDeliver(t, r.run(identify(`{"email":"b@x.co","plan":"gold"}`)))
		if time.Since(began) > time.Minute {
			t.Error("the next one waits as well")
		}
		close(stop)
		wg.Wait()
		r.want("a@x.co", map[string]string{"city": "Rome"})
		if n := r.logs.Count("fails over a property again and again"); n != 1 {
			t.Errorf("said %d times", n)
		}
		time.Sleep(refusedWait)
		mustDeliver(t, r.run(identify(`{"email":"b@x.co","plan":"gold"}`)))
		r.want("b@x.co", map[string]string{"plan": "gold"})
	})
}

// A person deletes an option that the router still takes for there: it is made again, and the value arrives.
func TestAnOptionThatAPersonDeleted(t *testing.T) {
	inBubble(t, topics(), "properties: {options: create}\n", func(t *testing.T, r *rig) {
		mustDeliver(t, r.run(identify(`{"email":"a@x.co","topics":"a"}`)))
		time.Sleep(2 * time.Minute)
		r.http("PATCH", "/crm/v3/properties/contacts/topics", `{"options":[{"label":"B","value":"b","hidden":false}]}`)
		mustDeliver(t, r.run(identify(`{"email":"b@x.co","topics":["a","b"]}`), identify(`{"email":"c@x.co","topics":"b"}`)))
		r.want("b@x.co", map[string]string{"topics": "a;b"})
		r.want("c@x.co", map[string]string{"topics": "b"})
	})
}
