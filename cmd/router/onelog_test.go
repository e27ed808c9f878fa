package main

import (
	"os/exec"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"eventrouter/pkg/destinations/hubspot/sandbox"
	"eventrouter/pkg/event"
	"eventrouter/pkg/router"
)

// TestDataOfOneLog opens the data directory of a killed router of before bulk events had a log: store of schema 3, entries in a call and waiting, live and
// bulk ones in the one log, sorted and not. It goes on without loss, in both logs, and opens again.
func TestDataOfOneLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Until(time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC))) // a day after it was written
		v := newVirtual(t, sandbox.Options{}, constant(50*time.Millisecond), "")
		unpack(t, filepath.Join("testdata", "data-of-one-log.tgz"), v.dir)
		v.start()
		if got := router.BulkPosition(v.srv.store); got != router.FirstBulk {
			t.Errorf("the bulk log begins at %d", got)
		}
		ev := event.Event{
			ID: "new-import", APIKey: "app", Received: time.Now().UTC(), Server: true, Class: event.Bulk,
			JSON: []byte(`{"event_type":"user_identify","utc_time":"2019-01-01T00:00:00Z","user":{"email":"imported@example.com","firstname":"Oldest","lastname":"Bulk"}}`),
		}
		if err := v.srv.bulkLog.Append(ev.AppendTo(nil)); err != nil {
			t.Fatal(err)
		}
		v.events = 200
		v.post(`{"event_type":"user_identify","user":{"email":"live@example.com","firstname":"Live"}}`)
		idle := func() {
			t.Helper()
			for began := time.Now(); !v.srv.router.Idle(); time.Sleep(time.Second) {
				if time.Since(began) > time.Hour {
					t.Fatalf("not idle: %+v", v.srv.router.Status())
				}
			}
		}
		idle()
		v.stop()
		v.start()
		defer v.stop()
		ev.ID, ev.JSON = "newer-import", []byte(`{"event_type":"user_identify","user":{"email":"late@example.com","firstname":"Late"}}`)
		if err := v.srv.bulkLog.Append(ev.AppendTo(nil)); err != nil {
			t.Fatal(err)
		}
		idle()
		for email, want := range map[string][2]string{
			"waits0@example.com":   {"Waits", "Imported"},
			"waits1@example.com":   {"Waits", ""},
			"waits2@example.com":   {"Waits", ""},
			"unsorted@example.com": {"Unsorted", ""},
			"done@example.com":     {"", "Known"}, // its first write reached another sandbox
			"imported@example.com": {"Imported", "Bulk"},
			"live@example.com":     {"Live", ""},
			"late@example.com":     {"Late", ""},
		} {
			c, ok := v.box.Contact(email)
			if got := [2]string{c.Properties["firstname"], c.Properties["lastname"]}; !ok || got != want {
				t.Errorf("%s is %q (there: %v), want %q", email, got, ok, want)
			}
		}
		if got := router.BulkPosition(v.srv.store); got != router.FirstBulk+2 {
			t.Errorf("the bulk log goes on at %d", got)
		}
	})
}

// unpack unpacks a .tgz in a folder.
func unpack(t *testing.T, archive, dir string) {
	t.Helper()
	if out, err := exec.Command("tar", "-xzf", archive, "--no-same-owner", "-C", dir).CombinedOutput(); err != nil {
		t.Fatalf("unpack %s: %v\n%s", archive, err, out)
	}
}
