package docs

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"eventrouter/pkg/destinations"
	"eventrouter/pkg/destinations/hubspot/sandbox"
)

// tablesOf returns the tables of hubspot.md with a header.
func tablesOf(t *testing.T, header string) (found [][]string) {
	t.Helper()
	for _, tb := range load(t, "hubspot.md").tables {
		if strings.Join(tb.header, " | ") == header {
			found = append(found, tb.rows...)
		}
	}
	if len(found) == 0 {
		t.Fatalf("hubspot.md has no table %s", header)
	}
	return found
}

// TestOutcomes: what becomes of events by the settings for identities and definitions.
func TestOutcomes(t *testing.T) {
	t.Parallel()
	rows := tablesOf(t, "settings | event | contact | custom event")
	if len(rows) < 11 {
		t.Errorf("%d examples", len(rows))
	}
	for _, row := range rows {
		synctest.Test(t, func(t *testing.T) {
			contact, events := outcomes(t, row)
			if got := strings.TrimSpace(contact); got != cellText(row[2]) {
				t.Errorf("%s %s: contact %s, the page says %s", row[0], row[1], got, row[2])
			}
			if got := strings.Join(events, ", "); got != cellText(row[3]) {
				t.Errorf("%s %s: custom event %s, the page says %s", row[0], row[1], got, row[3])
			}
		})
	}
}

// cellText is a cell as a reader sees it.
func cellText(cell string) string { return strings.ReplaceAll(cell, "`", "") }

// outcomes sends the events of a row one after the other and returns what came of them.
func outcomes(t *testing.T, row []string) (contact string, events []string) {
	t.Helper()
	a := newAccount(t, code(row[0])[0], sandbox.Options{})
	a.browser = strings.Contains(row[1], "from a browser")
	plainly := func(err error) string {
		var rejected *destinations.RejectError
		if reason, ok := destinations.IsSkip(err); ok {
			return "skipped: " + reason
		} else if errors.As(err, &rejected) {
			return "dead letter"
		}
		t.Fatalf("%s %s: %v", row[0], row[1], err)
		return ""
	}
	contact = "none"
	met := map[string]bool{}
	for _, body := range code(row[1]) {
		entries, err := a.plan(body)
		if err != nil {
			return plainly(err), nil
		}
		for _, e := range entries {
			if e.Plan.IfNew && met[e.Plan.Key] {
				continue
			}
			met[e.Plan.Key] = true
			o := a.send(t, e)[0]
			switch {
			case o.Err != nil:
				events = append(events, plainly(o.Err))
			case e.Plan.Lane == "events":
				all := a.box.Events()
				events = append(events, strings.TrimPrefix(all[len(all)-1].EventName, "pe"+hub+"_"))
			default:
				properties := a.box.Contacts()[0].Properties
				delete(properties, "email")
				text, err := json.Marshal(properties)
				if err != nil {
					t.Fatal(err)
				}
				contact = string(text)
			}
		}
	}
	return contact, events
}

// TestNewProperties: as what a property is made.
func TestNewProperties(t *testing.T) {
	t.Parallel()
	for _, row := range tablesOf(t, "under `properties` | values of `member_since` | made as") {
		synctest.Test(t, func(t *testing.T) {
			settings := code(row[0])[0]
			a := newAccount(t, "properties: {"+settings+"}", sandbox.Options{})
			var batch []destinations.Entry
			for _, value := range code(row[1]) {
				entries, err := a.plan(`{"event_type":"user_identify","user":{"email":"a@example.com","member_since":` + value + `}}`)
				if err != nil {
					t.Fatal(err)
				}
				batch = append(batch, entries...)
			}
			a.deliver(t, batch...)
			var got []string
			all := a.box.Properties()
			if i := slices.IndexFunc(all, func(p sandbox.Property) bool { return p.Name == "member_since" }); i >= 0 {
				got = []string{all[i].Type, all[i].FieldType}
				_, group, named := strings.Cut(settings, "group: ")
				if named && all[i].GroupName != group {
					t.Errorf("%s: in group %s", settings, all[i].GroupName)
				}
			}
			if diff := cmp.Diff(code(row[2]), got); diff != "" {
				t.Errorf("%s, %s (-page +HubSpot):\n%s", row[0], row[1], diff)
			}
		})
	}
}

// TestQuotaSettings: how many calls are made in ten seconds and in a day.
func TestQuotaSettings(t *testing.T) {
	t.Parallel()
	for _, row := range tablesOf(t, "settings | of 190 calls in ten seconds | of 1,000 calls a day") {
		synctest.Test(t, func(t *testing.T) {
			settings := code(row[0])[0]
			window, day := spend(t, settings)
			if got := strconv.Itoa(day); got != row[2] {
				t.Errorf("%s: %s calls in a day, the page says %s", settings, got, row[2])
			}
			if most, _ := strconv.Atoi(row[1]); window > most || window < most*9/10 {
				t.Errorf("%s: %d calls in ten seconds, the page says %d", settings, window, most)
			}
		})
	}
}

// spend delivers contacts one after the other until the day's calls are used up. It returns the most calls in ten seconds, and all.
func spend(t *testing.T, settings string) (window, day int) {
	t.Helper()
	time.Sleep(time.Hour) // virtual: a bubble begins at midnight, where a limit may be the day before's
	a := newAccount(t, settings, sandbox.Options{Burst: 190, Daily: 1000})
	for {
		entries, err := a.plan(`{"event_type":"user_identify","user":{"email":"a@example.com"}}`)
		if err != nil {
			t.Fatal(err)
		}
		p, err := a.dest.Acquire(context.Background(), "", entries[0].Plan.Lane)
		if err == nil {
			err = a.dest.Send(context.Background(), p, entries)[0].Err
		}
		var block *destinations.BlockError
		if errors.As(err, &block) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	var at []time.Time
	for _, c := range a.box.Calls() {
		at = append(at, c.At)
	}
	for i := range at {
		n := 0
		for _, other := range at[i:] {
			if other.Sub(at[i]) < 10*time.Second {
				n++
			}
		}
		window = max(window, n)
	}
	return window, len(at)
}
