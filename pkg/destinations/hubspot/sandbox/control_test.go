package sandbox

import (
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/tidwall/gjson"
)

func TestPostedFaults(t *testing.T) {
	c := newClient(t, Options{})
	post := func(body string) gjson.Result {
		t.Helper()
		status, answer := c.view("POST", "/faults", body)
		if status != 201 {
			t.Fatalf("%s: %d %s", body, status, answer)
		}
		return gjson.Parse(answer)
	}
	left := func() string { _, list := c.view("GET", "/faults", ""); return gjson.Get(list, "results.#.left").Raw }

	post(`{"endpoint":"contacts","times":2,"status":503,"body":{"message":"busy"},"headers":{"X-A":"b"},"contains":"poison"}`)
	c.must(200, "POST", upsertPath, upsert("a@b.co"))
	if answer := c.must(503, "POST", upsertPath, upsert("poison@b.co")); answer.Raw != `{"message":"busy"}` || c.header.Get("X-A") != "b" {
		t.Errorf("%s %v", answer.Raw, c.header)
	}
	if got := left(); got != "[1]" {
		t.Errorf("calls left: %s", got)
	}
	c.must(503, "POST", upsertPath, upsert("poison@b.co"))
	c.must(200, "POST", upsertPath, upsert("poison@b.co"))
	if got := left(); got != "[]" {
		t.Errorf("calls left: %s", got)
	}

	first, second := post(`{"status":500,"body":"\"text\""}`), post(`{"endpoint":"properties","status":404}`)
	if answer := c.must(500, "POST", upsertPath, upsert("a@b.co")); answer.Raw != `"text"` {
		t.Errorf("text as body: %s", answer.Raw)
	}
	if status, _ := c.view("DELETE", "/faults/"+first.Get("id").String(), ""); status != 204 {
		t.Errorf("delete: %d", status)
	}
	c.must(200, "POST", upsertPath, upsert("a@b.co"))
	c.must(404, "GET", propertiesPath, "")
	if status, _ := c.view("DELETE", "/faults/"+first.Get("id").String(), ""); status != 404 {
		t.Errorf("delete again: %d", status)
	}
	if status, _ := c.view("DELETE", "/faults", ""); status != 204 || second.Get("id").Int() != first.Get("id").Int()+1 {
		t.Errorf("clear: %d, %s after %s", status, second.Raw, first.Raw)
	}
	c.must(200, "GET", propertiesPath, "")
}

// TestPostedFaultsInTime: delays and late writes as posted.
func TestPostedFaultsInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newClient(t, Options{})
		c.view("POST", "/faults", `{"endpoint":"contacts/batch/upsert","times":1,"drop":true,"delay_ms":1500,"apply_late_ms":60000}`)
		began := time.Now()
		if _, err := exchange(c, time.Minute); err == nil || time.Since(began) != 1500*time.Millisecond {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		time.Sleep(time.Hour)
		if ct, _ := c.Contact("a@b.co"); len(ct.History["city"]) != 1 || ct.History["city"][0].At.Sub(began) != time.Minute {
			t.Errorf("written %v", ct.History)
		}
	})
}

// TestBadControl: what is wrong is said, and nothing changes.
func TestBadControl(t *testing.T) {
	c := newClient(t, Options{})
	f := func(method, path, body, want string) {
		t.Helper()
		status, answer := c.view(method, path, body)
		if status != 400 || !strings.Contains(answer, want) {
			t.Errorf("%s %s %s: %d %s, want %q", method, path, body, status, answer, want)
		}
	}
	fault := func(body, want string) { t.Helper(); f("POST", "/faults", body, want) }
	fault(`{"statuss":500}`, "statuss")
	fault(`{"status":99}`, "from 200 to 599")
	fault(`{"status":"500"}`, "status")
	fault(`{"status":500,"delay_ms":-1}`, "from 0 to 3600000")
	fault(`{"status":500,"apply_late_ms":3600001}`, "from 0 to 3600000")
	fault(`{"status":500,"times":-1}`, "times")
	fault(`{"status":500,"endpoint":"contact"}`, "contacts/batch/upsert")
	fault(`{"status":500,"drop":true}`, "drop")
	fault(`{"status":500,"apply":true,"apply_late_ms":1}`, "give one of them")
	fault(`{"status":500,"headers":{"a b":"c"}}`, "a b")
	fault(`{"status":500,"headers":{"a":"c\nd"}}`, "can not be sent")
	fault(`{"delay_ms":5,"body":"x"}`, "go with a status")
	fault(`{"times":3}`, "does nothing")
	fault(`{"status":500,"id":7}`, "given by the sandbox")
	fault(`{"status":500} {}`, "behind")
	fault(`[]`, "must be a JSON object")
	fault(``, "must be a JSON object")
	fault(`{"status":500`, "unexpected EOF")
	fault(`{"status":500,"body":"`+strings.Repeat("x", maxControl)+`"}`, "too large")

	options := func(body, want string) { t.Helper(); f("PATCH", "/options", body, want) }
	options(`{"burst":-1}`, "negative")
	options(`{"burst_window_ms":0}`, "burst_window_ms")
	options(`{"lag_ms":3600001}`, "lag_ms")
	options(`{"hub_id":"1"}`, "hub_id")
	options(`{"time_zone":"Mars"}`, "time_zone")
	options(`{"missing_scopes":["contacts"]}`, "crm.objects.contacts.read")
	options(`{"required":[{"when":"a"}]}`, "property")
	options(`{"lifecycle_stage":"nosuch"}`, "lifecycle_stage")
	options(`{"token":"x"}`, "token")
	options(`{"bad_events":"all"}`, "name_partly")
	options(`null`, "must be a JSON object")
	f("GET", "/calls?since=x", "", "since")
	f("GET", "/pages/calls?skip=-1", "", "skip")

	before, after := newClient(t, Options{}).Options(), c.Options()
	if diff := cmp.Diff(before.view(), after.view()); diff != "" || len(c.listFaults()) != 0 {
		t.Errorf("options (-before +after):\n%s%v", diff, c.listFaults())
	}
}

// TestPatchOptions changes each option while the sandbox runs, and Reset takes all back.
func TestPatchOptions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newEventClient(t, Options{})
		patch := func(body string) gjson.Result {
			t.Helper()
			status, answer := c.view("PATCH", "/options", body)
			if status != 200 {
				t.Fatalf("%s: %d %s", body, status, answer)
			}
			return gjson.Parse(answer)
		}
		upsertStatus := func() int { status, _ := c.call("POST", upsertPath, upsert("a@b.co")); return status }

		patch(`{"burst":2}`)
		if got := []int{upsertStatus(), upsertStatus(), upsertStatus()}; !cmp.Equal(got, []int{200, 200, 429}) {
			t.Errorf("burst of 2: %v", got)
		}
		patch(`{"burst":0,"daily":1,"time_zone":"Europe/Berlin"}`)
		if got := []int{upsertStatus(), upsertStatus()}; !cmp.Equal(got, []int{200, 429}) || c.header.Get("X-HubSpot-RateLimit-Daily") != "1" {
			t.Errorf("a day of 1: %v", got)
		}
		time.Sleep(23 * time.Hour) // it was midnight UTC, 1 in Berlin
		if got := upsertStatus(); got != 200 {
			t.Errorf("after midnight in Berlin: %d", got)
		}
		patch(`{"daily":0,"enterprise":false}`)
		c.must(403, "POST", sendPath, occurrence(""))
		if got := patch(`{"enterprise":true,"missing_scopes":["crm.objects.contacts.write"]}`).Get("missing_scopes").Raw; !strings.Contains(got, "write") {
			t.Errorf("options: %s", got)
		}
		if got := upsertStatus(); got != 403 {
			t.Errorf("without the scope: %d", got)
		}
		patch(`{"missing_scopes":[],"lag_ms":500}`)
		c.must(201, "POST", propertiesPath, planTier)
		patch(`{"lag_ms":0}`)
		c.must(404, "GET", propertiesPath+"/plan_tier", "") // changes stay in their order
		time.Sleep(500 * time.Millisecond)
		c.must(200, "GET", propertiesPath+"/plan_tier", "")
		patch(`{"bad_events":"name_partly"}`)
		c.must(207, "POST", sendPath+"/batch", batch(occurrence(""), `{"eventName":"pe20546336_nosuch","email":"a@b.co","properties":{}}`))
		patch(`{"required":[{"property":"zip"}],"lifecycle_stage":"lead"}`)
		c.must(400, "POST", strictUpsert, upsert("c@d.co"))
		c.must(200, "POST", strictUpsert, upsert("c@d.co", "zip", "1"))
		if ct, _ := c.Contact("c@d.co"); ct.Properties["lifecyclestage"] != "lead" {
			t.Errorf("contact %v", ct.Properties)
		}

		_, before := newClient(t, Options{}).view("GET", "/options", "")
		if status, _ := c.view("POST", "/reset", ""); status != 204 {
			t.Errorf("reset: %d", status)
		}
		if _, after := c.view("GET", "/options", ""); after != before || c.ContactCount() != 0 {
			t.Errorf("after reset: %s, want %s", after, before)
		}
	})
}

// TestLedgerSince: a script that asks again and again misses no call and sees none twice.
func TestLedgerSince(t *testing.T) {
	c := newClient(t, Options{})
	var seen []string
	since := 0
	for range 3 {
		for range 5 {
			c.must(200, "POST", upsertPath, upsert("a@b.co"))
		}
		for {
			_, answer := c.view("GET", "/calls?limit=2&since="+strconv.Itoa(since), "")
			list := gjson.Get(answer, "results").Array()
			if len(list) == 0 {
				break
			}
			for _, call := range list {
				seen = append(seen, call.Get("number").String())
				since = int(call.Get("number").Int())
			}
		}
	}
	if got := strings.Join(seen, " "); got != "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15" {
		t.Errorf("seen: %s", got)
	}
}

// TestForeignPageControlsNothing: a browser on this machine that shows a page of another site.
func TestForeignPageControlsNothing(t *testing.T) {
	c := newClient(t, Options{})
	c.must(200, "POST", upsertPath, upsert("a@b.co"))
	for method, path := range map[string]string{"POST": "/_sandbox/reset", "DELETE": "/_sandbox", "PATCH": "/_sandbox/options"} {
		r := httptest.NewRequest(method, path, strings.NewReader("{}"))
		r.Header.Set("Sec-Fetch-Site", "cross-site")
		w := httptest.NewRecorder()
		c.ServeHTTP(w, r)
		if w.Code != 403 || c.ContactCount() != 1 {
			t.Errorf("%s %s: %d, %d contacts", method, path, w.Code, c.ContactCount())
		}
	}
}

// FuzzControl posts any bytes to the control API: the answer is a success or a clear 400, and afterwards calls and pages are answered.
func FuzzControl(f *testing.F) {
	for _, body := range []string{
		`{"status":500}`, `{"endpoint":"contacts","times":2,"status":503,"body":{"a":[1]},"headers":{"X-A":"b"},"contains":"x","delay_ms":0}`,
		`{"drop":true,"apply":true}`, `{"burst":1,"daily":2,"time_zone":"UTC","lag_ms":1,"enterprise":false,"required":[{"property":"email"}]}`,
		`{"missing_scopes":["crm.objects.contacts.write"],"lifecycle_stage":"lead"}`, `null`, `[]`, `{"headers":{"":""},"status":204}`, ``,
		`{"status":200,"body":"\ud800"}`, `{"events_per_second":9223372036854775807}`,
	} {
		f.Add(uint8(0), []byte(body))
		f.Add(uint8(1), []byte(body))
	}
	f.Fuzz(func(t *testing.T, which uint8, body []byte) {
		if strings.Contains(string(body), "_ms") { // real time
			return
		}
		c := newClient(t, Options{})
		method, path, ok := "POST", "/faults", 201
		if which%2 == 1 {
			method, path, ok = "PATCH", "/options", 200
		}
		status, answer := c.view(method, path, string(body))
		if status != ok && status != 400 || strings.TrimSpace(answer) == "" {
			t.Fatalf("%s %q: %d %q", path, body, status, answer)
		}
		r := httptest.NewRequest("POST", upsertPath, strings.NewReader(upsert("a@b.co")))
		r.Header.Set("Authorization", "Bearer x")
		r.Header.Set("Content-Type", "application/json")
		res, err := c.RoundTripper().RoundTrip(r)
		if err == nil {
			res.Body.Close()
		}
		for _, page := range []string{"", "/pages/faults", "/pages/contacts", "/options", "/faults"} {
			if status, _ := c.view("GET", page, ""); status != 200 {
				t.Fatalf("%q: %s is %d", body, page, status)
			}
		}
	})
}
