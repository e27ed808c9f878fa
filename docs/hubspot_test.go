package docs

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

// post sends JSON to the router or, with a token, to the sandbox.
func post(t *testing.T, url string, body []byte) {
	t.Helper()
	req, err := http.NewRequest(http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer s2s.change-me")
	req.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode >= 300 {
		t.Fatalf("%s: %s", url, res.Status)
	}
}

// drained waits until the router has delivered everything.
func (d *deployment) drained(t *testing.T) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		metrics := d.get(t, "/metrics") // first: what is sorted is in a lane
		sorted := strings.Contains(metrics, `router_log_unsorted_records{log="live"} 0`) && strings.Contains(metrics, `router_log_unsorted_records{log="bulk"} 0`)
		var status struct{ Lanes []struct{ Entries int } }
		if err := json.Unmarshal([]byte(d.get(t, "/readyz")), &status); err != nil {
			t.Fatal(err)
		}
		left := 0
		for _, l := range status.Lanes {
			left += l.Entries
		}
		if left == 0 && sorted {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not delivered: %+v", status)
		}
		time.Sleep(50 * time.Millisecond) // polls another process
	}
}

// list reads one of the sandbox's lists.
func (d *deployment) list(t *testing.T, path string, into any) {
	t.Helper()
	res, err := http.Get("http://" + d.hub + "/_sandbox/" + path)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if err := json.NewDecoder(res.Body).Decode(into); err != nil {
		t.Fatal(err)
	}
}

// TestEventNames: names of custom events in hubspot.md, from the request to what the sandbox holds.
func TestEventNames(t *testing.T) {
	t.Parallel()
	d := served(t, `'$.event_type == "pageview" ? "" : $.event_type'`, `""`) // no filter: one of the events has no type
	names := tablesOf(t, "`event_type` | name")
	if len(names) < 4 {
		t.Fatal("hubspot.md lacks its table of names")
	}
	var events []string
	for i, row := range names {
		typ := ""
		if spans := code(row[0]); len(spans) == 1 {
			typ = fmt.Sprintf(`"event_type":%q,`, spans[0])
		}
		events = append(events, fmt.Sprintf(`{%s"user":{"email":"n%d@example.com"}}`, typ, i))
	}
	post(t, "http://"+d.router+"/s2s/events", []byte("["+strings.Join(events, ",")+"]"))
	d.drained(t)
	for i, row := range names {
		var found struct{ Results []struct{ EventName string } }
		d.list(t, fmt.Sprintf("events?email=n%d@example.com", i), &found)
		if len(found.Results) != 1 || found.Results[0].EventName != "pe20546336_"+code(row[1])[0] {
			t.Errorf("%s: got %v, the page says %s", row[0], found.Results, row[1])
		}
	}
}
