package main

import (
	"context"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"eventrouter/pkg/destinations/hubspot/sandbox"
	"eventrouter/pkg/store"
)

// provoked is the time from the event that meets the fault to the others.
const provoked = 50 * time.Millisecond

// span is a wait, from the answer that causes it to the next call.
type span struct{ least, most time.Duration }

var (
	atOnce   = span{0, 10 * time.Millisecond}
	afterSec = span{700 * time.Millisecond, 1300 * time.Millisecond} // the first pause after a failure, give or take a fifth
	probing  = span{4 * time.Second, 6 * time.Second}                // the first probe of a blocked lane
)

// about is d and what the margin of a window and the hand-over take.
func about(d time.Duration) span { return span{d, d + 20*time.Millisecond} }

// TestEveryStatus meets each answer of HubSpot in the whole router: how long which lane waits, and whom it costs what.
func TestEveryStatus(t *testing.T) {
	t.Parallel()
	const hour = time.Hour
	type row struct {
		name             string
		on               string // the call that is answered so
		status           int
		body             string
		header           map[string]string
		again            span   // how long the entry waits after one such answer
		contacts, events span   // and how long others in the lanes
		lasting          string // what becomes of the entry when HubSpot says it for 20 minutes and retry.max_age is a minute
	}
	const (
		contacts, events = "contacts/batch/upsert", "events/send/batch"
		delivered        = "delivered"
		rolling          = `{"status":"error","message":"You have reached your ten_secondly_rolling limit.","errorType":"RATE_LIMIT","policyName":"TEN_SECONDLY_ROLLING"}`
		secondly         = `{"status":"error","message":"You have reached your secondly limit.","errorType":"RATE_LIMIT","policyName":"SECONDLY"}`
		nameless         = `{"status":"error","message":"You have reached your secondly limit.","category":"RATE_LIMITS"}`
		daily            = `{"status":"error","message":"You have reached your daily limit.","errorType":"RATE_LIMIT","policyName":"DAILY"}`
		refused          = `{"status":"error","category":"VALIDATION_ERROR","message":"no"}`
		conflict         = `{"status":"error","category":"CONFLICT","message":"Contact already exists. Existing ID: 1"}`
		partly           = `{"status":"COMPLETE","results":[],"numErrors":1,"errors":[{"status":"error","category":"VALIDATION_ERROR","message":"no","context":{"objectWriteTraceId":["0"]}}]}`
		noScope          = `{"status":"error","category":"MISSING_SCOPES","message":"no","context":{"requiredGranularScopes":["x"]}}`
	)
	never := span{-1, -1} // the answer has finished the entry
	after := func(s string) map[string]string { return map[string]string{"Retry-After": s} }
	// Virtual time begins at midnight UTC, the account is in a zone 9 h east of that.
	toMidnight := 15*hour - time.Minute
	rows := []row{
		{"200", contacts, 0, "", nil, never, atOnce, atOnce, delivered},
		{"207, one refused", contacts, 207, partly, nil, never, atOnce, atOnce, "rejected"},
		{"400", contacts, 400, refused, nil, never, atOnce, atOnce, "rejected"},
		{"401", contacts, 401, "", nil, probing, probing, probing, delivered},
		{"403", contacts, 403, noScope, nil, probing, probing, atOnce, delivered},
		{"404", contacts, 404, "", nil, probing, probing, atOnce, delivered},
		{"409", contacts, 409, conflict, nil, about(2 * time.Second), atOnce, atOnce, "rejected"},
		{"414", contacts, 414, "", nil, probing, probing, atOnce, delivered},
		{"415", contacts, 415, "", nil, probing, probing, atOnce, delivered},
		{"423", contacts, 423, "", nil, about(2 * time.Second), about(2 * time.Second), atOnce, delivered},
		{"423, Retry-After", contacts, 423, "", after("7"), about(7 * time.Second), about(7 * time.Second), atOnce, delivered},
		{"429 rolling", contacts, 429, rolling, nil, about(10 * time.Second), about(10 * time.Second), atOnce, delivered},
		{"429 rolling, Retry-After", contacts, 429, rolling, after("4"), about(4 * time.Second), about(4 * time.Second), atOnce, delivered},
		{"429 secondly", contacts, 429, secondly, nil, about(time.Second), about(time.Second), atOnce, delivered},
		{"429 secondly without a name", contacts, 429, nameless, nil, about(time.Second), about(time.Second), atOnce, delivered},
		{"429 daily", contacts, 429, daily, nil, span{toMidnight - time.Minute, toMidnight}, span{toMidnight - time.Minute, toMidnight}, atOnce, ""},
		{"429 that says nothing", contacts, 429, "busy", nil, about(10 * time.Second), about(10 * time.Second), atOnce, delivered},
		{"477, Retry-After", contacts, 477, "", after("3600"), about(hour), about(hour), about(hour), delivered},
		{"477", contacts, 477, "", nil, probing, probing, probing, delivered},
		{"503, Retry-After", contacts, 503, "", after("30"), about(30 * time.Second), about(30 * time.Second), atOnce, delivered},

		{"204", events, 0, "", nil, never, atOnce, atOnce, delivered},
		{"400", events, 400, refused, nil, never, atOnce, atOnce, "rejected"},
		{"401", events, 401, "", nil, probing, probing, probing, delivered},
		{"403", events, 403, noScope, nil, probing, atOnce, probing, delivered},
		{"414", events, 414, "", nil, probing, atOnce, probing, delivered},
		{"415", events, 415, "", nil, probing, atOnce, probing, delivered},
		{"423", events, 423, "", nil, about(2 * time.Second), atOnce, about(2 * time.Second), delivered},
		{"429 secondly", events, 429, secondly, nil, about(time.Second), atOnce, about(time.Second), delivered},
		{"477, Retry-After", events, 477, "", after("60"), about(time.Minute), about(time.Minute), about(time.Minute), delivered},
		{"503, Retry-After", events, 503, "", after("30"), span{30 * time.Second, 31 * time.Second}, atOnce, span{30 * time.Second, 31 * time.Second}, delivered},
	}
	for _, status := range []int{500, 502, 503, 504, 521, 522, 523, 524, 525, 526} {
		text, lasting := strconv.Itoa(status), ""
		switch status {
		case 500:
			lasting = "retries"
		case 503, 522: // nobody's fault, however long a gateway says so; of those that are alike two do
			lasting = delivered
		}
		rows = append(rows, // a contact's write may have been applied: it goes out again unchanged; an event may be repeated at any time
			row{text, contacts, status, "<html>", nil, atOnce, atOnce, atOnce, lasting},
			row{text, events, status, "<html>", nil, afterSec, atOnce, atOnce, lasting})
	}
	for _, r := range rows {
		name := strings.Split(r.on, "/")[0] + " " + r.name
		fault := sandbox.Fault{Endpoint: r.on, Status: r.status, Body: r.body, Header: r.header}
		synctest.Test(t, func(t *testing.T) {
			v := faultyRouter(t, "24h")
			defer v.stop()
			fault := fault
			fault.Times = 1
			v.box.Inject(fault)
			nth, met := v.provoke(r.on)
			v.post(person("other@example.com", ""), track("warm2@example.com", "//other"))
			v.drain(24 * hour)
			for _, wait := range []struct {
				who, in string
				want    span
			}{
				{"the entry", "//new", r.again},
				{"another contact", "other@example.com", r.contacts},
				{"another event", "//other", r.events},
			} {
				if got := v.wait(nth, met, wait.in); got < wait.want.least || got > wait.want.most {
					t.Errorf("%s: %s waits for %v, want %v to %v", name, wait.who, got, wait.want.least, wait.want.most)
				}
			}
		})
		if r.lasting == "" {
			continue
		}
		synctest.Test(t, func(t *testing.T) {
			v := faultyRouter(t, "1m")
			defer v.stop()
			clear := v.box.Inject(fault)
			v.provoke(r.on)
			time.Sleep(20 * time.Minute)
			clear()
			v.drain(3 * hour)
			letters, err := v.srv.store.DeadLetters(context.Background(), store.DeadLetterQuery{Limit: 10})
			if err != nil {
				t.Fatal(err)
			}
			outcome := delivered
			if len(letters) > 0 {
				outcome = letters[0].Reason
			}
			if outcome != r.lasting || len(letters) > 1 {
				t.Errorf("%s, for 20 minutes: %s, %d dead letters, want %s", name, outcome, len(letters), r.lasting)
			}
			_, there := v.box.Contact("new@example.com")
			if there = there || v.box.EventCount() > 1; there != (r.lasting == delivered) {
				t.Errorf("%s, for 20 minutes: HubSpot has it: %v", name, there)
			}
		})
	}
}

func person(email, website string) string {
	return `{"event_type":"user_identify","user":{"email":"` + email + `","firstname":"A","website":"` + website + `"}}`
}

func track(email, url string) string {
	return `{"event_type":"x","url":"` + url + `","user":{"email":"` + email + `"}}`
}

// faultyRouter is one that knows two people, with nothing left to learn or to load, a minute after midnight.
func faultyRouter(t *testing.T, maxAge string) *virtual {
	t.Helper()
	tokyo := time.FixedZone("Asia/Tokyo", 9*60*60)
	v := newVirtual(t, sandbox.Options{Burst: 100, TimeZone: tokyo}, constant(0), "    retry: {max_age: "+maxAge+"}\n")
	v.start()
	v.post(person("warm@example.com", ""), person("warm2@example.com", ""))
	v.drain(time.Minute)
	v.post(track("warm@example.com", "//warm"))
	v.drain(time.Minute)
	time.Sleep(time.Until(time.Now().Truncate(time.Minute).Add(time.Minute)))
	return v
}

// provoke posts what makes the call on an endpoint, and returns its number and when it was answered.
func (v *virtual) provoke(endpoint string) (nth int, met time.Time) {
	v.t.Helper()
	text := person("new@example.com", "//new")
	if strings.HasPrefix(endpoint, "events") {
		text = track("warm@example.com", "//new")
	}
	v.post(text)
	time.Sleep(provoked)
	for i, c := range v.made() {
		if strings.Contains(c.body, "//new") {
			return i, c.answered
		}
	}
	v.t.Fatalf("no call of %s", endpoint)
	return 0, time.Time{}
}

// wait is the time from an answer to the next call that holds text; -1: there was none. What was posted only when provoke had returned is
// counted from then, if it left at once.
func (v *virtual) wait(nth int, met time.Time, text string) time.Duration {
	for _, c := range v.made()[nth+1:] {
		if !strings.Contains(c.body, text) {
			continue
		}
		wait := c.sent.Sub(met)
		if wait >= provoked && wait <= provoked+atOnce.most {
			wait -= provoked
		}
		return wait
	}
	return -1
}
