package sandbox

import (
	"net/http"
	"strconv"
	"time"
)

// searchPerSecond is the limit of CRM search, shared by all apps of an account.
const searchPerSecond = 5

// maxTokens bounds the tokens that are counted apart, where any is accepted.
const maxTokens = 1000

// quota counts calls against the account's limits.
type quota struct {
	bursts         map[consumer]*window // each app has its own
	most, appMost  int                  // in each of them: of a private app's token, and of an OAuth app
	in             time.Duration
	search, events *window
	daily          int // 0: no limit; of the account, whatever the token
	zone           *time.Location
	day            string // in zone
	used           int    // that day
}

func newQuota(o *Options) quota {
	return quota{
		bursts: map[consumer]*window{},
		most:   o.Burst, appMost: o.appBurst(),
		in:     o.BurstWindow,
		search: newWindow(searchPerSecond, time.Second),
		events: newWindow(o.EventsPerSecond, time.Second),
		daily:  o.Daily,
		zone:   o.TimeZone,
	}
}

// setLimits changes the limits; what was counted stays counted.
func (q *quota) setLimits(o *Options) {
	q.most, q.appMost, q.in = o.Burst, o.appBurst(), o.BurstWindow
	for c, w := range q.bursts {
		w.max, w.size = q.limit(c), q.in
	}
	q.events.max = o.EventsPerSecond
	q.daily, q.zone = o.Daily, o.TimeZone
}

// consumer is who is counted: a token, or the client id of an OAuth app, whose tokens change.
type consumer struct {
	name string
	app  bool
}

// limit is how many calls a consumer has in a window; 0: any number.
func (q *quota) limit(c consumer) int {
	if c.app {
		return q.appMost
	}
	return q.most
}

// appBurst is the limit of an OAuth app; 0: none.
func (o *Options) appBurst() int {
	switch {
	case o.AppBurst < 0:
		return 0
	case o.AppBurst == 0:
		return defaultAppBurst
	}
	return o.AppBurst
}

// burst is the window of a consumer.
func (q *quota) burst(c consumer) *window {
	w := q.bursts[c]
	if w == nil {
		if len(q.bursts) == maxTokens {
			clear(q.bursts)
		}
		w = newWindow(q.limit(c), q.in)
		q.bursts[c] = w
	}
	return w
}

// take counts a call made at t, or returns the 429 that refuses it. A refused call counts nowhere (modelled).
func (q *quota) take(p policy, c consumer, t time.Time) *apiError {
	switch p {
	case eventPolicy: // exempt from burst and daily
		if !q.events.take(t) {
			return limitReached("secondly", "SECONDLY")
		}
		return nil
	case searchPolicy:
		if q.search.full(t) {
			// Really without policyName, unlike the others.
			return &apiError{status: http.StatusTooManyRequests, category: rateLimits, message: "You have reached your secondly limit."}
		}
	case generalPolicy:
		if q.burst(c).full(t) {
			return limitReached("ten_secondly_rolling", "TEN_SECONDLY_ROLLING")
		}
	}
	if !c.app { // the day's limit is of private apps only
		if q.today(t); q.daily > 0 && q.used >= q.daily {
			return limitReached("daily", "DAILY")
		}
		q.used++
	}
	if p == searchPolicy {
		q.search.take(t)
	} else {
		q.burst(c).take(t)
	}
	return nil
}

func limitReached(name, policyName string) *apiError {
	return &apiError{
		status: http.StatusTooManyRequests, policyName: policyName,
		message: "You have reached your " + name + " limit.",
	}
}

// today starts a new count at midnight in the account's time zone.
func (q *quota) today(t time.Time) {
	if q.daily == 0 {
		return
	}
	if day := t.In(q.zone).Format(time.DateOnly); day != q.day {
		q.day, q.used = day, 0
	}
}

// setHeaders tells what remains: nothing for events, no burst for search.
func (q *quota) setHeaders(h http.Header, p policy, c consumer, t time.Time) {
	set := func(name string, n int) { h[name] = []string{strconv.Itoa(n)} }
	if p == eventPolicy {
		return
	}
	if q.daily > 0 && !c.app {
		q.today(t)
		set("X-Hubspot-Ratelimit-Daily", q.daily)
		set("X-Hubspot-Ratelimit-Daily-Remaining", q.daily-q.used)
	}
	if p == generalPolicy && q.limit(c) > 0 {
		set("X-Hubspot-Ratelimit-Interval-Milliseconds", int(q.in.Milliseconds()))
		set("X-Hubspot-Ratelimit-Max", q.limit(c))
		set("X-Hubspot-Ratelimit-Remaining", q.burst(c).left(t))
	}
}

// window allows max calls in any stretch of size.
type window struct {
	max  int // 0: no limit
	size time.Duration
	at   []time.Time // of the calls in the window, oldest first
}

func newWindow(maxCalls int, size time.Duration) *window { return &window{max: maxCalls, size: size} }

// left says how many calls t allows.
func (w *window) left(t time.Time) int {
	for len(w.at) > 0 && !w.at[0].After(t.Add(-w.size)) {
		w.at = w.at[1:]
	}
	return w.max - len(w.at)
}

func (w *window) full(t time.Time) bool { return w.max > 0 && w.left(t) <= 0 }

// take counts a call, or returns false.
func (w *window) take(t time.Time) bool {
	if w.full(t) {
		return false
	}
	if w.max > 0 {
		w.at = append(w.at, t)
	}
	return true
}
