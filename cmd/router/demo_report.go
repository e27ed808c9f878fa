package main

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"eventrouter/pkg/destinations/hubspot/sandbox"
)

// report prints what is in HubSpot now and what is not and why. It fails if that is not what was to be expected.
func (d *demo) report(want expectation) error {
	contacts := d.hub.Contacts()
	events := eventCounts(d.hub.Events())
	m := d.measure()

	d.printf("\nWhat is now in HubSpot\n")
	d.printf("  %d contacts, for example\n", len(contacts))
	for _, c := range contacts[:min(3, len(contacts))] {
		d.printf("    %s\n", describe(c))
	}
	d.printf("  %d custom events\n", sum(events))
	for _, name := range slices.Sorted(maps.Keys(events)) {
		d.printf("    %6d  %s%s\n", events[name], name, made[name])
	}
	d.printf("\nWhat is not, and why\n")
	d.printf("    %6d  events filtered out: heartbeats\n", m.filtered)
	d.printf("    %6d  events of nobody: no e-mail, and no id that the router has seen with one\n", m.skipped)
	d.printf("    %6d  duplicates: an SDK sent its queue again\n", m.duplicates)
	d.printf("    %6d  dead letters\n", m.dead)
	d.printf("  properties left out\n")
	for _, key := range slices.SortedFunc(maps.Keys(m.stripped), strippedKey.compare) {
		d.printf("    %6d  %s (%s)\n", m.stripped[key], key.property, key.reason)
	}
	d.printf("\nCalls made to HubSpot\n")
	for _, c := range d.hub.Counts() {
		d.printf("    %6d  %-24s status %d, %d inputs\n", c.Calls, c.Endpoint, c.Status, c.Inputs)
	}
	d.printf("  from receipt to delivery: %s on average\n", m.latency.Round(time.Millisecond))

	problems := slices.Concat(checkContacts(contacts, want), checkEvents(events, want), m.check(want))
	if len(problems) > 0 {
		return fmt.Errorf("not as expected:\n  %w", errors.Join(problems...))
	}
	d.verdict = fmt.Sprintf("ok: %d events posted: %d contacts and %d custom events in HubSpot, %d filtered, %d skipped, %d duplicates, 0 dead letters, 0 refused calls",
		want.posted, len(contacts), sum(events), m.filtered, m.skipped, m.duplicates)
	return nil
}

// made says of events that no client posts where they come from.
var made = map[string]string{"large_purchase": "  (made by the transform)"}

func (d *demo) printf(format string, args ...any) { fmt.Fprintf(d.out, format, args...) }

func describe(c sandbox.Contact) string {
	var parts []string
	for _, name := range []string{"firstname", "lastname", "company", "job_title", "plan", "phone"} {
		if v := c.Properties[name]; v != "" {
			parts = append(parts, fmt.Sprintf("%s=%q", name, v))
		}
	}
	return c.Properties["email"] + "  " + strings.Join(parts, " ")
}

// eventCounts counts events by their name without HubSpot's prefix.
func eventCounts(events []sandbox.Event) map[string]int {
	counts := map[string]int{}
	for _, e := range events {
		counts[strings.TrimPrefix(e.EventName, "pe"+demoHub+"_")]++
	}
	return counts
}

func sum(counts map[string]int) int {
	n := 0
	for _, c := range counts {
		n += c
	}
	return n
}

func checkContacts(contacts []sandbox.Contact, want expectation) []error {
	var problems []error
	if len(contacts) != len(want.contacts) {
		problems = append(problems, fmt.Errorf("%d contacts, want %d", len(contacts), len(want.contacts)))
	}
	for _, c := range contacts {
		email := c.Properties["email"]
		for name, value := range want.contacts[email] {
			if got := c.Properties[name]; got != value {
				problems = append(problems, fmt.Errorf("contact %s: %s is %q, want %q", email, name, got, value))
			}
		}
	}
	return problems
}

func checkEvents(events map[string]int, want expectation) []error {
	var problems []error
	for name, n := range want.events {
		if events[name] != n {
			problems = append(problems, fmt.Errorf("%d events %s, want %d", events[name], name, n))
		}
	}
	if sum(events) != sum(want.events) {
		problems = append(problems, fmt.Errorf("%d events, want %d", sum(events), sum(want.events)))
	}
	return problems
}

// measured are the router's own counts, as its metrics have them.
type measured struct {
	filtered, skipped, duplicates, dead, refused int
	stripped                                     map[strippedKey]int
	latency                                      time.Duration
}

type strippedKey struct{ property, reason string }

func (k strippedKey) compare(o strippedKey) int {
	return cmp.Or(strings.Compare(k.property, o.property), strings.Compare(k.reason, o.reason))
}

// measure reads the metrics.
func (d *demo) measure() measured {
	m := measured{stripped: map[strippedKey]int{}}
	families, err := d.srv.registry.Gather()
	if err != nil {
		d.printf("metrics: %v\n", err)
	}
	for _, f := range families {
		for _, metric := range f.GetMetric() {
			labels := map[string]string{}
			for _, l := range metric.GetLabel() {
				labels[l.GetName()] = l.GetValue()
			}
			n := int(metric.GetCounter().GetValue())
			switch f.GetName() {
			case "router_filtered_total":
				m.filtered += n
			case "router_skipped_total":
				m.skipped += n
			case "router_duplicates_total":
				m.duplicates += n
			case "router_dead_letters_total":
				m.dead += n
			case "router_stripped_properties_total":
				m.stripped[strippedKey{labels["property"], labels["reason"]}] += n
			case "router_destination_calls_total":
				if labels["status"] == "429" {
					m.refused += n
				}
			case "router_delivery_latency_seconds":
				if h := metric.GetHistogram(); labels["lane"] == "contacts" && h.GetSampleCount() > 0 {
					m.latency = time.Duration(h.GetSampleSum() / float64(h.GetSampleCount()) * float64(time.Second))
				}
			}
		}
	}
	return m
}

func (m measured) check(want expectation) []error {
	var problems []error
	f := func(what string, got, want int) {
		if got != want {
			problems = append(problems, fmt.Errorf("%d %s, want %d", got, what, want))
		}
	}
	f("filtered events", m.filtered, want.filtered)
	f("skipped events", m.skipped, want.skipped)
	f("duplicates", m.duplicates, want.duplicates)
	f("dead letters", m.dead, 0)
	f("calls refused by the quota", m.refused, 0)
	byName := map[string]int{}
	for key, n := range m.stripped {
		byName[key.property] += n
	}
	for name := range want.stripped {
		if byName[name] == 0 {
			problems = append(problems, fmt.Errorf("property %s was not stripped", name))
		}
	}
	return problems
}
