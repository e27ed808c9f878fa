package main

import (
	"testing"

	"eventrouter/pkg/store"
)

// TestOutcomeText: what an error says already is not said twice.
func TestOutcomeText(t *testing.T) {
	f := func(status store.Status, reason, text, want string) {
		t.Helper()
		if got := outcomeText(status, reason, text); got != want {
			t.Errorf("%s, %q, %q: got %q, want %q", status, reason, text, got, want)
		}
	}
	f(store.Delivered, "", "", "delivered")
	f(store.Filtered, `filter: event_type is "a"`, "", `filtered: event_type is "a"`)
	f(store.Dead, "transform", "transform crm.js line 3, column 7: Error: no\nstack", "dead letter: transform crm.js line 3, column 7: Error: no")
	f(store.Dead, "transform", "transform: it returned false", "dead letter: transform: it returned false")
	f(store.Dead, "plan", "no such lane", "dead letter: plan: no such lane")
	f(store.Dead, "rejected", "url: the event has no value for it", "dead letter: rejected: url: the event has no value for it")
}

func TestLeadsTo(t *testing.T) {
	f := func(hub, want string) {
		t.Helper()
		if got := leadsTo(hub); got != want {
			t.Errorf("%q: got %q, want %q", hub, got, want)
		}
	}
	f("20546336", "hub 20546336")
	f("https://example.com/in", "https://example.com/in")
}
