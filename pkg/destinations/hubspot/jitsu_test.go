package hubspot

import (
	"encoding/json"
	"maps"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"eventrouter/docs"
	"eventrouter/pkg/destinations/hubspot/sandbox"
	"eventrouter/pkg/event"
)

// differences are the cases in which we deliberately do something else than Jitsu, with what ends in HubSpot then. The reasons are in the table
// of the documentation, which lists the same cases.
var differences = map[string]struct {
	contacts map[string]map[string]string // by e-mail; nil: none
	events   []string                     // name and e-mail
}{
	"identify: email in eventn_ctx (compat)": {
		contacts: map[string]map[string]string{"c@b.co": {"firstname": "C"}},
	},
	"identify: email with space": {},
	"identify: email with percent": {
		contacts: map[string]map[string]string{"a%zz@b.co": {}},
	},
	"track: without email, hub2": {},
	"track: event_type number": {
		contacts: map[string]map[string]string{"n@b.co": {}},
		events:   []string{"e_5 n@b.co"},
	},
	"track: event_type null": {
		contacts: map[string]map[string]string{"n@b.co": {}},
		events:   []string{"unknown n@b.co"},
	},
	"SDK v1_browser_snippet_3.1.5_compat[0]": {
		contacts: map[string]map[string]string{"john.doe@example.com": {"firstname": "John", "id": "123", "anonymous_id": "yot8clbmks"}},
		events:   []string{"signup john.doe@example.com"},
	},
	"SDK v1_node_id[0]": {
		contacts: map[string]map[string]string{"john.doe@example.com": {
			"firstname": "John", "lastname": "Doe", "job_title": "CTO", "company": "Acme", "phone": "+1 555 0100", "plan": "enterprise",
			"id": "123", "score": "42", "vip": "true", "tags": "a;b", "address": `{"city":"NYC"}`,
		}},
	},
}

// notHere are the cases that are about what stands before a destination.
var notHere = map[string]string{
	"track: filtered by template (skipme) hub2": "filters",
	"segment track without traits":              "the Segment protocol",
	"SDK segment_node_batch[0]":                 "the Segment protocol",
}

// jitsuProperties are those of the account that the cases were recorded with, where HubSpot has them not itself.
func jitsuProperties() (all []sandbox.Property) {
	for _, name := range []string{"job_title", "plan", "tags", "anonymous_id", "hashed_anonymous_id", "id", "newprop1"} {
		all = append(all, sandbox.Property{Name: name, Label: name, Type: "string", FieldType: "text"})
	}
	return append(
		all,
		sandbox.Property{Name: "score", Label: "Score", Type: "number", FieldType: "number"},
		sandbox.Property{Name: "vip", Label: "VIP", Type: "bool", FieldType: "booleancheckbox"},
	)
}

type jitsuCase struct {
	Name     string          `json:"name"`
	Input    json.RawMessage `json:"input"`
	Requests []struct {
		Method string          `json:"method"`
		URL    string          `json:"url"`
		Body   json.RawMessage `json:"body"`
	} `json:"hubspot_requests"`
}

// TestJitsuCases runs what was observed of Jitsu and compares what ends in HubSpot: contacts with their properties, events by name.
func TestJitsuCases(t *testing.T) {
	body, err := os.ReadFile("../../../testdata/jitsu/hubspot.json")
	if err != nil {
		t.Fatal(err)
	}
	var group struct{ Cases []jitsuCase }
	if err := json.Unmarshal(body, &group); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(slices.Sorted(maps.Keys(docs.Differences("hubspot"))), slices.Sorted(maps.Keys(differences))); diff != "" {
		t.Errorf("the cases that differ from Jitsu's are not those that the documentation lists (-listed +here):\n%s", diff)
	}
	ran := 0
	for _, c := range group.Cases {
		if notHere[c.Name] != "" {
			continue
		}
		ran++
		t.Run(c.Name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { c.run(t) })
		})
	}
	if ran != 29 {
		t.Errorf("%d cases ran", ran)
	}
}

func (c *jitsuCase) run(t *testing.T) {
	r := newRig(t, sandbox.Options{Properties: jitsuProperties()}, "")
	inputs := []json.RawMessage{c.Input}
	if c.Input[0] == '[' {
		if err := json.Unmarshal(c.Input, &inputs); err != nil {
			t.Fatal(err)
		}
	}
	var events []*event.Event
	for _, in := range inputs {
		events = append(events, &event.Event{ID: c.Name, APIKey: "k", Received: time.Now(), Server: true, JSON: in})
	}
	r.run(events...)
	gotContacts := map[string]map[string]string{}
	for _, ct := range r.box.Contacts() {
		email := ct.Properties["email"]
		gotContacts[email] = r.properties(email)
	}
	var gotEvents []string
	for _, ev := range r.box.Events() {
		gotEvents = append(gotEvents, strings.TrimPrefix(ev.EventName, "pe"+testHub+"_")+" "+ev.Email)
	}
	wantContacts, wantEvents := c.observed(t)
	if d, ok := differences[c.Name]; ok {
		if cmp.Equal(wantContacts, d.contacts) && cmp.Equal(wantEvents, d.events) {
			t.Error("listed as a difference, and is none")
		}
		wantContacts, wantEvents = d.contacts, d.events
	}
	if wantContacts == nil {
		wantContacts = map[string]map[string]string{}
	}
	if diff := cmp.Diff(wantContacts, gotContacts); diff != "" {
		t.Error("contacts:", diff)
	}
	if diff := cmp.Diff(wantEvents, gotEvents); diff != "" {
		t.Error("events:", diff)
	}
}

// observed is what Jitsu's requests make of HubSpot. A difference that holds everywhere is taken out here: Jitsu adds a hash of the client's
// address to each user, which this router does not.
func (c *jitsuCase) observed(t *testing.T) (contacts map[string]map[string]string, events []string) {
	contacts = map[string]map[string]string{}
	for _, req := range c.Requests {
		if req.Method == "GET" {
			u, err := url.Parse(req.URL)
			if err != nil {
				t.Fatal(err)
			}
			email := u.Query().Get("email")
			contacts[email] = map[string]string{} // HubSpot makes the contact of an event
			events = append(events, u.Query().Get("_n")+" "+email)
			continue
		}
		var body struct {
			Properties []struct {
				Property string
				Value    any
			}
		}
		if err := json.Unmarshal(req.Body, &body); err != nil {
			t.Fatal(err)
		}
		values := map[string]string{}
		for _, p := range body.Properties {
			text, ok := p.Value.(string)
			if !ok {
				b, err := json.Marshal(p.Value)
				if err != nil {
					t.Fatal(err)
				}
				text = string(b)
			}
			if p.Property != "hashed_anonymous_id" {
				values[p.Property] = text
			}
		}
		email := values["email"]
		delete(values, "email")
		contacts[email] = values
	}
	return contacts, events
}
