package dryrun

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"eventrouter/pkg/config"
	"eventrouter/pkg/destinations"
	"eventrouter/pkg/destinations/hubspot"
	"eventrouter/pkg/event"
	"eventrouter/pkg/router"
)

const token = "pat-na1-planted-token"

// hubspotTarget is a HubSpot destination with settings beside its token and hub.
func hubspotTarget(t *testing.T, name, settings string) Target {
	t.Helper()
	s, err := config.NewSettings("test.yaml", "destinations."+name+".hubspot", []byte("access_token: "+token+"\nhub_id: \"12345\"\n"+settings))
	if err != nil {
		t.Fatal(err)
	}
	return Target{
		Route: router.Route{Name: name, Type: "hubspot"},
		Make:  func(env destinations.Env) (destinations.Destination, error) { return hubspot.New(s, env) },
	}
}

var received = time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)

func posted(id, json string) *event.Event {
	return &event.Event{ID: id, APIKey: "web", Server: true, Received: received, JSON: []byte(json)}
}

func play(t *testing.T, o Options, events ...*event.Event) *Report {
	t.Helper()
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	r, err := s.Play(context.Background(), events...)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestPlay(t *testing.T) {
	r := play(t, Options{Targets: []Target{hubspotTarget(t, "crm", "")}},
		posted("1", `{"event_type":"user_identify","user":{"email":"A@b.co","firstname":"Ada","plan":"x","annualrevenue":12}}`),
		posted("2", `{"event_type":"Signed Up","user":{"email":"a@b.co"},"n":1}`),
	)
	data, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(data), token) {
		t.Error("the token is in the report")
	}
	t.Logf("%s", data)
}
