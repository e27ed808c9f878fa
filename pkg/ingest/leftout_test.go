package ingest

import (
	"fmt"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// TestBadMessagesOfBatch: SDKs drop a batch that is refused with 400, so one bad element loses no others.
func TestBadMessagesOfBatch(t *testing.T) {
	log := &memoryLog{}
	o := testOptions(log)
	reg := prometheus.NewRegistry()
	o.Registerer = reg
	base := start(t, o)
	total := 0
	f := func(body, want, stored string, headers ...string) {
		t.Helper()
		got := send(t, "POST", base+"/v1/batch", []byte(body), append(headers, "X-Auth-Token", "s2s.secret")...)
		if text := fmt.Sprintf("%d %s", got.status, got.body); text != want {
			t.Errorf("%.100s: got %s, want %s", body, text, want)
		}
		var types []string
		for _, ev := range log.take(t) {
			types = append(types, ev.Type())
			if strings.Contains(string(ev.JSON), "bad") {
				t.Errorf("%.100s: stored %.100s", body, ev.JSON)
			}
		}
		if text := strings.Join(types, " "); text != stored {
			t.Errorf("%.100s: stored %q, want %q", body, text, stored)
		}
		if got.status == 200 {
			total += strings.Count(body, "bad")
		}
	}
	track := func(name string) string { return `{"type":"track","event":"` + name + `","userId":"u"}` }
	large := `{"type":"track","event":"bad","x":"` + strings.Repeat("x", 32<<10) + `"}`
	deep := `{"bad":` + strings.Repeat("[", 200) + strings.Repeat("]", 200) + `}`
	const tooLarge, tooDeep = "Size of one of events exceeds limit: 32768", "nesting exceeds limit: 128"
	batch := func(elements ...string) string { return `{"batch":[` + strings.Join(elements, ", ") + `]}` }

	f(batch(track("a"), large, track("b")), `200 {"success":true,"rejected":1,"errors":[{"index":1,"reason":"`+tooLarge+`"}]}`, "a b")
	f(batch(track("a"), track("b"), large), `200 {"success":true,"rejected":1,"errors":[{"index":2,"reason":"`+tooLarge+`"}]}`, "a b")
	f(batch(deep, track("a"), `"bad"`, large, track("b")), `200 {"success":true,"rejected":3,"errors":[{"index":0,"reason":"`+tooDeep+`"},`+
		`{"index":2,"reason":"element 2 is a string, not an object"},{"index":3,"reason":"`+tooLarge+`"}]}`, "a b")
	f(batch(track("a"), deep), `200 {"ok":true,"rejected":1,"errors":[{"index":1,"reason":"`+tooDeep+`"}]}`, "a", "X-Write-Key", "s2s.secret")
	f(batch(track("a"), deep), `200 OK`, "a", "AnonymousId", "x")
	f(batch(large, `["bad"]`), `400 {"message":"Error parsing events body: `+tooLarge+`","error":"element 0, at byte 10, has 32805 bytes"}`, "")
	f(batch(track("a"), `[bad]`), `400 {"message":"Error parsing events body: error parsing HTTP body: invalid character 'b' looking for beginning of value","error":"at byte 55"}`, "")
	f(batch(track("a"), `{"bad":`+strings.Repeat("[", 100_000)), `400 {"message":"Error parsing events body: error parsing HTTP body: invalid character '[' exceeded max depth","error":"at byte 10058"}`, "")
	got := send(t, "POST", base+"/v1/batch?token=s2s.secret", []byte(batch(track("a"), strings.Repeat(`"bad",`, 29)+`"bad"`)))
	if total += 30; strings.Count(got.body, "reason") != maxToldMessages || !strings.Contains(got.body, `"rejected":30,`) {
		t.Errorf("30 bad ones: got %s", got.body)
	}

	if n, err := testutil.GatherAndCount(reg, "router_batch_rejected_messages_total"); err != nil || n == 0 {
		t.Errorf("%d counters, %v", n, err)
	}
	if err := testutil.GatherAndCompare(reg, strings.NewReader(fmt.Sprintf("# HELP router_batch_rejected_messages_total Elements of batches that were left out: no messages, or too large, by id of the API key.\n"+
		"# TYPE router_batch_rejected_messages_total counter\nrouter_batch_rejected_messages_total{api_key=\"key1\"} %d\nrouter_batch_rejected_messages_total{api_key=\"key2\"} 0\n"+
		"router_batch_rejected_messages_total{api_key=\"nodest\"} 0\n", total)), "router_batch_rejected_messages_total"); err != nil {
		t.Error(err)
	}
}
