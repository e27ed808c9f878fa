package sandbox

import (
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/tidwall/gjson"
)

// view asks under /_sandbox.
func (c *client) view(method, path, body string) (int, string) {
	w := httptest.NewRecorder()
	c.ServeHTTP(w, httptest.NewRequest(method, "/_sandbox"+path, strings.NewReader(body)))
	return w.Code, w.Body.String()
}

func TestView(t *testing.T) {
	c := newEventClient(t, Options{})
	c.must(200, "POST", upsertPath, upsertBody(3, 0))
	c.must(200, "POST", upsertPath, upsert("a@b.co", "city", "<script>"))
	c.must(204, "POST", sendPath, occurrence(`"uuid":"u-1"`))
	f := func(path, gjsonPath, want string) {
		t.Helper()
		status, body := c.view("GET", path, "")
		if got := gjson.Get(body, gjsonPath).String(); status != 200 || got != want {
			t.Errorf("%s: %d, %s is %q, want %q", path, status, gjsonPath, got, want)
		}
	}
	f("/contacts", "total", "4")
	f("/contacts?limit=1", "results.#", "1")
	f("/contacts", "results.0.properties.email", "a@b.co") // newest first
	f("/contacts?email=USER1@example.com", "results.0.properties.email", "user1@example.com")
	f("/contacts?email=no@b.co", "results.#", "0")
	f("/events", "results.0.uuid", "u-1")
	f("/events?email=A@b.co", "total", "1")
	f("/events?email=no@b.co", "total", "0")
	f("/events?limit=0", "total", "1")
	f("/definitions", "results.0.fullyQualifiedName", "pe20546336_signed_up")
	f("/properties", "total", "405")
	f("/calls", "results.#.endpoint", `["events/send","contacts/batch/upsert","contacts/batch/upsert"]`)
	f("/counts", `results.#(endpoint=="contacts/batch/upsert").inputs`, "4")

	if status, _ := c.view("GET", "/nothing", ""); status != 404 {
		t.Errorf("unknown view: %d", status)
	}
	if status, _ := c.view("GET", "/contacts?limit=-1", ""); status != 400 {
		t.Errorf("a negative limit: %d", status)
	}
	if status, _ := c.view("DELETE", "", ""); status != 204 || c.ContactCount() != 0 || len(c.Calls()) != 0 {
		t.Errorf("reset: %d, %d contacts", status, c.ContactCount())
	}
}

func TestCounts(t *testing.T) {
	c := newClient(t, Options{})
	c.must(200, "POST", upsertPath, upsertBody(3, 0))
	c.must(400, "POST", upsertPath, upsert("000"))
	c.must(200, "POST", upsertPath, upsertBody(2, 0))
	want := []Count{{"contacts/batch/upsert", 200, 2, 5}, {"contacts/batch/upsert", 400, 1, 1}}
	if diff := cmp.Diff(want, c.Counts()); diff != "" {
		t.Errorf("counts (-want +got):\n%s", diff)
	}
}

// TestHistoryIsBounded: a contact and the list of calls keep the newest.
func TestHistoryIsBounded(t *testing.T) {
	ct := &contact{}
	const most = 1000
	for i := range 3 * most {
		ct.set("city", string(rune('a'+i%26)), 1, time.Time{}, most)
	}
	if n := len(ct.writes); n > most || n < most*8/10 || ct.writes[n-1].text != ct.stored("city") {
		t.Errorf("%d writes kept", n)
	}
	s := New(Options{})
	for range 2*maxCalls + 5 {
		s.record(&call{}, s.st, 404)
	}
	if n := len(s.Calls()); n > maxCalls || n < maxCalls*8/10 || s.Counts()[0].Calls != 2*maxCalls+5 {
		t.Errorf("%d calls kept, %v", n, s.Counts())
	}
}
