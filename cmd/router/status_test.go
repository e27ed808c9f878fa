package main

import (
	"context"
	"fmt"
	"net/http"
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
	never    = span{-1, -1}                                          // the answer has finished the entry
	midnight = span{-2, -2}                                          // until the account's
)

// about is d and what the margin of a window and the hand-over take.
func about(d time.Duration) span { return span{d, d + 20*time.Millisecond} }

// statusRow is an answer, and what it costs.
type statusRow struct {
	name             string
	on               string // the call that is answered so
	status           int
	body             string
	header           map[string]string
	again            span   // how long the entry waits after one such answer
	contacts, events span   // and how long others in the lanes
	lasting          string // what becomes of the entry when HubSpot says it for 20 minutes and retry.max_age is a minute
}

func (r statusRow) title() string { return strings.Split(r.on, "/")[0] + " " + r.name }

// fault answers so many calls so; 0: all.
func (r statusRow) fault(times int) sandbox.Fault {
	return sandbox.Fault{Endpoint: r.on, Status: r.status, Body: r.body, Header: r.header, Times: times}
}

const delivered = "delivered"

// capeVerde is the account's zone: its midnight is one hour after the one in UTC at which virtual time begins.
var capeVerde = time.FixedZone("Atlantic/Cape_Verde", -60*60)

// TestEveryStatus meets each answer of HubSpot in the whole router: how long which lane waits, and whom it costs what.
func TestEveryStatus(t *testing.T) {
	t.Parallel()
	const hour = time.Hour
	const (
		contacts, events = "contacts/batch/upsert", "events/send/batch"
		rolling          = `{"status":"error","message":"You have reached your ten_secondly_rolling limit.","errorType":"RATE_LIMIT","policyName":"TEN_SECONDLY_ROLLING"}`
		secondly         = `{"status":"error","message":"You have reached your secondly limit.","errorType":"RATE_LIMIT","policyName":"SECONDLY"}`
		nameless         = `{"status":"error","message":"You have reached your secondly limit.","category":"RATE_LIMITS"}`
		daily            = `{"status":"error","message":"You have reached your daily limit.","errorType":"RATE_LIMIT","policyName":"DAILY"}`
		refused          = `{"status":"error","category":"VALIDATION_ERROR","message":"no"}`
		conflict         = `{"status":"error","category":"CONFLICT","message":"Contact already exists. Existing ID: 1"}`
		partly           = `{"status":"COMPLETE","results":[],"numErrors":1,"errors":[{"status":"error","category":"VALIDATION_ERROR","message":"no","context":{"objectWriteTraceId":["0"]}}]}`
		noScope          = `{"status":"error","category":"MISSING_SCOPES","message":"no","context":{"requiredGranularScopes":["x"]}}`
	)
	after := func(s string) map[string]string { return map[string]string{"Retry-After": s} }
	rows := []statusRow{
		{"429 daily", contacts, 429, daily, nil, midnight, midnight, atOnce, ""},
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
			statusRow{text, contacts, status, "<html>", nil, atOnce, atOnce, atOnce, lasting},
			statusRow{text, events, status, "<html>", nil, afterSec, atOnce, atOnce, lasting})
	}
	// One router meets them one after the other, but where what went before is remembered: that an account's limit was hit, and that calls go
	// through while others do not.
	var once, long []int
	for i, r := range rows {
		if r.status == http.StatusTooManyRequests {
			playOnce(t, rows, i)
		} else {
			once = append(once, i)
		}
		switch {
		case r.lasting == "":
		case r.status >= 500:
			playLong(t, rows, i)
		default:
			long = append(long, i)
		}
	}
	playOnce(t, rows, once...)
	playLong(t, rows, long...)
}

// playOnce plays the rows of these numbers: the answer is given once.
func playOnce(t *testing.T, rows []statusRow, which ...int) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		v := faultyRouter(t, "24h")
		defer v.stop()
		for _, i := range which {
			r := rows[i]
			name, who := r.title(), newcomer(i)
			v.box.Inject(r.fault(1))
			nth, met := v.provoke(r.on, who)
			v.post(person("other-"+who.email, ""), track("warm2@example.com", who.url+"other"))
			v.drain(24 * time.Hour)
			for _, wait := range []struct {
				who, in string
				want    span
			}{
				{"the entry", who.url + "new", r.again},
				{"another contact", "other-" + who.email, r.contacts},
				{"another event", who.url + "other", r.events},
			} {
				want := wait.want
				if want == midnight {
					want = about(untilMidnight(met, capeVerde))
				}
				if got := v.wait(nth, met, wait.in); got < want.least || got > want.most {
					t.Errorf("%s: %s waits for %v, want %v to %v", name, wait.who, got, want.least, want.most)
				}
			}
			time.Sleep(time.Minute) // no call of before counts against the limit
		}
	})
}

// playLong plays the rows of these numbers: the answer is given for 20 minutes.
func playLong(t *testing.T, rows []statusRow, which ...int) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		v := faultyRouter(t, "1m")
		defer v.stop()
		known := 0 // dead letters of the rows before
		for _, i := range which {
			r := rows[i]
			name, who := r.title(), newcomer(i)
			before := v.box.EventCount()
			clear := v.box.Inject(r.fault(0))
			v.provoke(r.on, who)
			time.Sleep(20 * time.Minute)
			clear()
			v.drain(3 * time.Hour)
			letters, err := v.srv.store.DeadLetters(context.Background(), store.DeadLetterQuery{Limit: 100})
			if err != nil {
				t.Fatal(err)
			}
			more := len(letters) - known
			known = len(letters)
			outcome := delivered
			if more > 0 {
				outcome = letters[0].Reason // the newest
			}
			if outcome != r.lasting || more > 1 {
				t.Errorf("%s, for 20 minutes: %s, %d dead letters, want %s", name, outcome, more, r.lasting)
			}
			_, there := v.box.Contact(who.email)
			if there = there || v.box.EventCount() > before; there != (r.lasting == delivered) {
				t.Errorf("%s, for 20 minutes: HubSpot has it: %v", name, there)
			}
			time.Sleep(time.Minute)
		}
	})
}

// caller is the person of a row, and the start of the addresses of its pages.
type caller struct{ email, url string }

func newcomer(row int) caller {
	return caller{fmt.Sprintf("p%d@example.com", row), fmt.Sprintf("//%d/", row)}
}

// untilMidnight is how long a day still has in a zone.
func untilMidnight(at time.Time, zone *time.Location) time.Duration {
	year, month, day := at.In(zone).Date()
	return time.Date(year, month, day+1, 0, 0, 0, 0, zone).Sub(at)
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
	v := newVirtual(t, sandbox.Options{Burst: 100, TimeZone: capeVerde}, constant(0), "    retry: {max_age: "+maxAge+"}\n")
	v.start()
	v.post(person("warm@example.com", ""), person("warm2@example.com", ""))
	v.drain(time.Minute)
	v.post(track("warm@example.com", "//warm"))
	v.drain(time.Minute)
	time.Sleep(time.Until(time.Now().Truncate(time.Minute).Add(time.Minute)))
	return v
}

// provoke posts what makes the call on an endpoint, and returns its number and when it was answered.
func (v *virtual) provoke(endpoint string, who caller) (nth int, met time.Time) {
	v.t.Helper()
	text := person(who.email, who.url+"new")
	if strings.HasPrefix(endpoint, "events") {
		text = track("warm@example.com", who.url+"new")
	}
	v.post(text)
	time.Sleep(provoked)
	for i, c := range v.made() {
		if strings.Contains(c.body, who.url+"new") {
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
