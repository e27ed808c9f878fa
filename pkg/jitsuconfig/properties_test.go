package jitsuconfig

import (
	"context"
	"encoding/json"
	"math/rand/v2"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"gopkg.in/yaml.v3"

	"eventrouter/pkg/config"
	"eventrouter/pkg/destinations"
	"eventrouter/pkg/destinations/hubspot"
	"eventrouter/pkg/destinations/hubspot/sandbox"
	"eventrouter/pkg/event"
)

// hubLayout converts a file with one HubSpot destination that has this data_layout.
func hubLayout(t *testing.T, layout any) (config.Destination, []Note) {
	t.Helper()
	data, err := yaml.Marshal(map[string]any{
		"api_keys": []string{"js.secret1"},
		"destinations": map[string]any{"crm": map[string]any{
			"type": "hubspot", "mode": "stream", "data_layout": layout, "hubspot": map[string]any{"access_token": "pat-1", "hub_id": "1"},
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	r, err := Convert("jitsu.yaml", data)
	if err != nil {
		t.Fatalf("%s: %v", data, err)
	}
	cfg, err := config.Parse("router.yaml", r.YAML, nil)
	if err != nil {
		t.Fatalf("%v\n%s", err, r.YAML)
	}
	return cfg.Destinations[0], r.Notes
}

// contactOf delivers an identify to a new account and returns the contact's properties.
func contactOf(t *testing.T, s config.Settings, body string) map[string]string {
	t.Helper()
	box := sandbox.New(sandbox.Options{HubID: "1", Properties: []sandbox.Property{
		{Name: "plan_tier", Type: "string"}, {Name: "plan", Type: "string"}, {Name: "origin", Type: "string"}, {Name: "note", Type: "string"},
	}})
	d, err := hubspot.New(s, destinations.Env{Name: "crm", Transport: box.RoundTripper(), Metrics: destinations.NewMetrics(prometheus.NewRegistry())})
	if err != nil {
		t.Fatal(err)
	}
	ev := &event.Event{ID: "1", APIKey: "k", Received: time.Now(), Server: true, JSON: []byte(body)}
	plans, err := d.Plan(ev)
	if err != nil {
		t.Fatalf("%s: %v", body, err)
	}
	p, err := d.Acquire(context.Background(), "", plans[0].Lane)
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range d.Send(context.Background(), p, []destinations.Entry{{Plan: plans[0], Event: ev, Attempt: 1}}) {
		if o.Err != nil {
			t.Fatalf("%s: %v", body, o.Err)
		}
	}
	return box.Contacts()[0].Properties
}

// TestPropertiesDoTheSame: where mappings become properties, the contact gets of generated events what it gets of those that Jitsu's semantics make.
func TestPropertiesDoTheSame(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(3, 4))
	mappings := [][]jitsuRule{
		{{Src: "/user/Plan", Dst: "/user/plan_tier", Action: "move"}},
		{{Src: "/user/Plan", Dst: "/user/plan_tier", Action: "move"}, {Dst: "/user/origin", Action: "constant", Value: "app"}},
		{{Dst: "/user/origin", Action: "constant", Value: "two words"}, {Dst: "/user/note", Action: "constant", Value: 5}},
		{{Dst: "/user/origin", Action: "constant", Value: "null"}, {Dst: "/user/note", Action: "constant", Value: true}},
		{{Dst: "/user/origin", Action: "constant", Value: "False"}, {Dst: "/user/note", Action: "constant", Value: "a.b"}},
		{{Src: "/user/nick", Dst: "/user/note", Action: "move"}, {Dst: "/user/plan", Action: "cast", Type: "integer"}},
	}
	plain, _ := hubLayout(t, map[string]any{})
	for _, rules := range mappings {
		d, _ := hubLayout(t, map[string]any{"mappings": map[string]any{"fields": rules}})
		if !d.Settings.Has("properties.map") || d.Transform != "" {
			t.Errorf("%+v became no properties", rules)
		}
		for i := range 12 {
			user := object{"email": "a" + strconv.Itoa(i) + "@example.com"}
			for _, name := range []string{"Plan", "plan_tier", "origin", "note", "nick", "firstname"} {
				if rng.IntN(2) == 0 {
					user[name] = []any{"text", 7, nil, true, "", []any{"x", "y"}}[rng.IntN(6)]
				}
			}
			in := object{"event_type": "user_identify", "user": user}
			body, err := json.Marshal(in)
			if err != nil {
				t.Fatal(err)
			}
			mapped, err := model{true, rules}.apply(decode(t, body))
			if err != nil {
				t.Fatal(err)
			}
			want, err := json.Marshal(mapped)
			if err != nil {
				t.Fatal(err)
			}
			synctest.Test(t, func(t *testing.T) {
				if diff := cmp.Diff(contactOf(t, plain.Settings, string(want)), contactOf(t, d.Settings, string(body))); diff != "" {
					t.Errorf("%+v of %s (-mapped by Jitsu +properties.map):\n%s", rules, body, diff)
				}
			})
		}
	}
}

// TestPropertiesOnlyWhereTheyDo: mappings that do more than name properties of the contact become a transform.
func TestPropertiesOnlyWhereTheyDo(t *testing.T) {
	f := func(layout map[string]any) {
		t.Helper()
		if d, _ := hubLayout(t, layout); d.Settings.Has("properties") || d.Transform == "" {
			t.Errorf("%v became properties", layout)
		}
	}
	fields := func(rules ...jitsuRule) map[string]any { return map[string]any{"fields": rules} }
	nick := jitsuRule{Src: "/user/nick", Dst: "/user/note", Action: "move"}
	f(map[string]any{"mappings": fields(nick), "table_name_template": "$.user.nick"})
	f(map[string]any{"mappings": fields(nick), "table_name_template": "$.user.note"})
	f(map[string]any{"mappings": map[string]any{"keep_unmapped": false, "fields": []jitsuRule{nick}}})
	f(map[string]any{"mappings": fields(nick, jitsuRule{Src: "/traits", Action: "remove"})})
	f(map[string]any{"mappings": fields(nick, jitsuRule{Src: "/user/note", Dst: "/user/nick", Action: "move"})})
	plan := jitsuRule{Dst: "/user/plan", Action: "constant", Value: "x"}
	f(map[string]any{"mappings": fields(plan, jitsuRule{Src: "/user/Plan", Dst: "/user/note", Action: "move"})})
	f(map[string]any{"mappings": fields(jitsuRule{Src: "/user/Plan", Dst: "/user/note", Action: "move"}, plan)})
	f(map[string]any{"mappings": fields(jitsuRule{Src: "/user/mail", Dst: "/user/email", Action: "move"})})
	f(map[string]any{"mappings": fields(jitsuRule{Src: "/user/Email", Dst: "/user/note", Action: "move"})})
	f(map[string]any{"mappings": fields(jitsuRule{Src: "/user/id", Dst: "/user/note", Action: "move"})})
	f(map[string]any{"mappings": fields(jitsuRule{Src: "/user/Note", Dst: "/user/note", Action: "move"})})
	f(map[string]any{"mappings": fields(jitsuRule{Src: "/user/nick||/nick", Dst: "/user/note", Action: "move"})})
	f(map[string]any{"mappings": fields(jitsuRule{Src: "/nick", Dst: "/user/note", Action: "move"})})
	f(map[string]any{"mappings": fields(jitsuRule{Dst: "/user/Note", Action: "constant", Value: "x"})})
	f(map[string]any{"mappings": fields(jitsuRule{Dst: "/user/note", Action: "constant", Value: "{{.x}}"})})
	f(map[string]any{"mappings": fields(jitsuRule{Dst: "/user/note", Action: "constant", Value: []any{"x"}})})
	f(map[string]any{"mappings": fields(jitsuRule{Dst: "/user/note", Action: "constant"})})
	f(map[string]any{"mappings": fields(jitsuRule{Dst: "/note", Action: "constant", Value: "x"})})
}
