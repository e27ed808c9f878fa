package router

import (
	"errors"
	"strings"
	"testing"

	"eventrouter/pkg/enrich"
	"eventrouter/pkg/event"
	"eventrouter/pkg/filters"
	"eventrouter/pkg/store"
)

// TestDecideByFilters: the conditions go first, and what they leave out has the one that did not hold as its reason; the template is asked for the rest.
func TestDecideByFilters(t *testing.T) {
	match, err := filters.CompileMatch(matchSettings(t, `{event_type: [signup, purchase], not: {user.email: {ends_with: "@corp.com"}}}`))
	if err != nil {
		t.Fatal(err)
	}
	template, err := filters.Compile(`$.off ? "" : $.user.plan`, filters.Options{})
	if err != nil {
		t.Fatal(err)
	}
	f := func(object string, status store.Status, reason string) {
		t.Helper()
		r := Route{Name: "crm", Match: match, Filter: template, Enrichment: &enrich.Rules{}, Destination: newRemote()}
		ds := r.Decide(nil, &event.Event{ID: "e1", JSON: []byte(object)}, filters.World{})
		if len(ds) != 1 || ds[0].Status != status || ds[0].Reason != reason || (ds[0].Err != nil) != (status == store.Dead) {
			t.Errorf("%.100s: %+v, want %s, %q", object, ds, status, reason)
		}
	}
	f(`{"event_type":"signup","user":{"plan":"pro","email":"ada@example.com"}}`, "", "")
	f(`{"event_type":"pageview","user":{"plan":"pro"}}`, store.Filtered, `filter: event_type is "signup" or "purchase"`)
	f(`{"event_type":"signup","user":{"email":"ada@corp.com"}}`, store.Filtered, `filter: not (user.email ends with "@corp.com")`)
	f(`{"event_type":"signup","off":1}`, store.Filtered, "")
	f(`{"event_type":"signup"}`, store.Filtered, filters.LacksMember)
	f(`{"event_type":"pageview"}`, store.Filtered, `filter: event_type is "signup" or "purchase"`)
}

// TestDecideOnLongTexts: a condition that can not be decided is no reason to deliver, nor to skip.
func TestDecideOnLongTexts(t *testing.T) {
	match, err := filters.CompileMatch(matchSettings(t, `{not: {note: {matches: "^x"}}}`))
	if err != nil {
		t.Fatal(err)
	}
	r := Route{Name: "crm", Match: match, Enrichment: &enrich.Rules{}, Destination: newRemote()}
	ds := r.Decide(nil, &event.Event{ID: "e1", JSON: []byte(`{"note":"` + strings.Repeat("y", 20<<10) + `"}`)}, filters.World{})
	if len(ds) != 1 || ds[0].Status != store.Dead || ds[0].Reason != "filter" || !errors.Is(ds[0].Err, filters.ErrLimit) {
		t.Errorf("%+v", ds)
	}
}
