// Package destinationtest holds destinations to their contract. A destination passes one [Suite], in a test of its own package:
//
//	func TestContract(t *testing.T) {
//		destinationtest.Run(t, destinationtest.Suite{
//			New: New, Settings: "url: https://example.com/\ntoken: s3cr3t-token\n", Secrets: []string{"s3cr3t-token"},
//			Broken: "url: 7\n", Problems: []string{"1: url", "1: token"},
//			Remote: func() http.RoundTripper { return takesAll{} },
//			Events: map[string]func(string) string{"events": func(email string) string { return `{"user":{"email":"` + email + `"}}` }},
//		})
//	}
//
// The remote is the author's own double, as simple as can be: it takes everything. The suite stands before it and has calls fail in all the ways
// in which calls fail:
//
//	destination ─▶ suite: refuse, throttle, break, hang ─▶ the double
//
// All runs in virtual time, so a timeout of half a minute takes none.
package destinationtest

import (
	"net/http"
	"testing"
	"testing/synctest"

	"eventrouter/pkg/destinations"
)

// Suite says what the tests need to know of a destination.
type Suite struct {
	// New is the factory.
	New destinations.Factory
	// Settings is what stands under the type's name, as YAML.
	Settings string
	// Secrets are texts in Settings that must be seen nowhere but in calls to the remote.
	Secrets []string
	// Broken are settings with several mistakes, and Problems where these are, as line and key: "3: batch.max_events". All must be reported at once.
	Broken   string
	Problems []string
	// Remote makes a double of the remote, which takes everything. It is called for each test, inside of its bubble, and may use no sockets.
	Remote func() http.RoundTripper
	// Events has for each lane the JSON of an event of the person with an e-mail. The e-mail must reach the remote as it is.
	Events map[string]func(email string) string
	// Delivers says whether a call delivers entries. The suite breaks only those. Nil: all but GET.
	Delivers func(*http.Request) bool
	// Refusal is how the remote refuses a call because of one entry. Zero: 400.
	Refusal Answer
	// Blocking are answers that concern no single entry, such as one to a wrong token. Nil: 401 and 403.
	Blocking []Answer
}

// Answer is one of the remote's.
type Answer struct {
	Status int
	Header http.Header
	// Body may hold ECHO, for which the suite puts what it was sent, credentials as well, as a careless remote might. "": ECHO alone.
	Body string
}

// Run runs all tests, each for each lane.
func Run(t *testing.T, s Suite) {
	t.Helper()
	s.setDefaults()
	t.Run("Settings", s.testSettings)
	t.Run("NewOnlyAllocates", s.testNew)
	t.Run("LanesAreStable", s.testLanes)
	t.Run("Address", s.testAddress)
	t.Run("Simulated", s.testSimulated)
	t.Run("TesterEnds", s.testTester)
	for lane := range s.Events {
		t.Run(lane, func(t *testing.T) {
			for _, test := range []struct {
				name string
				run  func(*rig)
			}{
				{"PlanIsPure", testPlan},
				{"Delivers", testDelivers},
				{"NothingToSend", testEmpty},
				{"OneBadEntry", testOneBad},
				{"Blocked", testBlocked},
				{"Throttled", testThrottled},
				{"ServerErrors", testServerErrors},
				{"NoAnswer", testNoAnswer},
				{"CutShort", testCutShort},
				{"CutShortWhileSplitting", testCutShortWhileSplitting},
				{"PermitsComeBack", testPermits},
				{"Concurrently", testConcurrently},
			} {
				t.Run(test.name, func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						r := newRig(t, &s, lane)
						test.run(r)
						r.mustBeSilent()
					})
				})
			}
		})
	}
}

func (s *Suite) setDefaults() {
	if s.Delivers == nil {
		s.Delivers = func(r *http.Request) bool { return r.Method != http.MethodGet }
	}
	if s.Refusal.Status == 0 {
		s.Refusal.Status = http.StatusBadRequest
	}
	if s.Blocking == nil {
		s.Blocking = []Answer{{Status: http.StatusUnauthorized}, {Status: http.StatusForbidden}}
	}
}
