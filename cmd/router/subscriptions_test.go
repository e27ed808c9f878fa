package main

import (
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"eventrouter/pkg/destinations/hubspot/sandbox"
)

// TestSubscriptionsExample runs configs/subscriptions.yaml as it stands: what its comments promise must be in HubSpot.
func TestSubscriptionsExample(t *testing.T) {
	box := sandbox.New(sandbox.Options{HubID: demoHub, Token: demoToken})
	remote := httptest.NewServer(box)
	defer remote.Close()
	t.Setenv("SERVER_SECRET", "s2s.shop")
	t.Setenv("HUBSPOT_TOKEN", demoToken)
	t.Setenv("HUBSPOT_HUB_ID", demoHub)
	t.Setenv("HUBSPOT_URL", remote.URL)
	cfg, err := load("../../configs/subscriptions.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range cfg.Warnings {
		t.Errorf("a warning: %s", w)
	}
	cfg.Server.DataDir, cfg.Server.MinFreeBytes = t.TempDir(), 1<<20
	run := startService(t, cfg)
	run.post("s2s.shop", `[
		{"event_id": "1", "event_type": "user_identify", "user": {"id": "u-1", "email": "Ada@example.com", "firstname": "Ada", "phone": "+44 1", "shoe_size": 38}},
		{"event_id": "2", "event_type": "subscription_started", "user": {"id": "u-1", "email": "ada@example.com", "firstname": "ADA", "lastname": "Byron"},
			"subscriptions": [{"title": "Box of the month", "active": true}]},
		{"event_id": "3", "event_type": "user_identify", "user": {"id": "u-2", "firstname": "Nobody"}},
		{"event_id": "4", "event_type": "pageview", "user": {"id": "u-1", "email": "ada@example.com"}}
	]`)
	run.settle()
	want := map[string]string{
		"email": "ada@example.com", "firstname": "Ada", "lastname": "Byron", "phone": "+44 1", "user_id": "u-1",
		"active_subscription_count": "1", "cancelled_subscription_count": "0", "has_active_subscription": "true", "subscription_products": "Box of the month",
	}
	check := func(when string) {
		t.Helper()
		ada, ok := box.Contact("ada@example.com")
		if !ok {
			t.Fatal("HubSpot has no contact ada@example.com")
		}
		if diff := cmp.Diff(want, ada.Properties); diff != "" {
			t.Errorf("%s: %s", when, diff)
		}
	}
	check("after the first subscription")

	// Somebody corrects a number by hand. Then Ada cancels, and takes something that no dropdown has seen.
	setByHand(t, remote.URL, "ada@example.com", `{"phone": "+44 2"}`)
	run.post("s2s.shop", `[
		{"event_id": "5", "event_type": "subscription_cancelled", "user": {"id": "u-1", "email": "ada@example.com", "phone": "+44 1"},
			"subscriptions": [{"title": "Box of the month", "active": false}]},
		{"event_id": "6", "event_type": "subscription_started", "user": {"id": "u-1", "email": "ada@example.com"},
			"subscriptions": [{"title": "Box of the month", "active": false}, {"title": "Tea; and cake", "active": false}, {"title": "Newsletter", "active": false}]},
		{"event_id": "7", "event_type": "user_identify", "user": {"id": "u-1", "email": "ada@example.com", "lastname": "Lovelace"}}
	]`)
	run.settle()
	want["phone"] = "+44 2"
	want["active_subscription_count"], want["cancelled_subscription_count"], want["has_active_subscription"] = "0", "3", "false"
	got, _ := box.Contact("ada@example.com")
	want["subscription_products"] = got.Properties["subscription_products"] // checked below
	check("after the cancellation")
	products := strings.Split(got.Properties["subscription_products"], ";")
	if len(products) != 2 || products[0] != "Box of the month" || products[1] != "Newsletter" { // a semicolon parts options: no title may hold one
		t.Errorf("subscription_products is %q", products)
	}
	for _, p := range box.Properties() {
		if p.Name != "subscription_products" {
			continue
		}
		var options []string
		for _, o := range p.Options {
			options = append(options, o.Value)
		}
		if p.Type != "enumeration" || p.FieldType != "checkbox" || !slices.Contains(options, "Newsletter") || !slices.Contains(options, "Box of the month") {
			t.Errorf("subscription_products is %s %s with the options %q", p.Type, p.FieldType, options)
		}
	}
	if n := box.ContactCount(); n != 1 {
		t.Errorf("%d contacts, want the one with an e-mail", n)
	}
	names := map[string]int{}
	for _, e := range box.Events() {
		names[e.EventName]++
	}
	prefix := "pe" + demoHub + "_subscription_"
	if diff := cmp.Diff(map[string]int{prefix + "started": 2, prefix + "cancelled": 1}, names); diff != "" {
		t.Errorf("custom events: %s", diff)
	}
	run.stop()
}
