package sandbox

import (
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestToken(t *testing.T) {
	f := func(o Options, header string, want int) {
		t.Helper()
		c := newClient(t, o)
		r, _ := http.NewRequest("GET", "http://sandbox"+propertiesPath+"/email", nil)
		if header != "" {
			r.Header.Set("Authorization", header)
		}
		status, answer := c.do(r)
		if status != want || want == 401 && (answer.Get("category").Str != "INVALID_AUTHENTICATION" || answer.Get("status").Str != "error") {
			t.Errorf("%q: %d %s", header, status, answer.Raw)
		}
	}
	f(Options{}, "Bearer anything", 200)
	f(Options{}, "", 401)
	f(Options{}, "Bearer ", 401)
	f(Options{}, "Basic abc", 401)
	f(Options{Token: "pat-1"}, "Bearer pat-1", 200)
	f(Options{Token: "pat-1"}, "bearer pat-1", 200)
	f(Options{Token: "pat-1"}, "Bearer pat-2", 401)
}

func TestMissingScopes(t *testing.T) {
	f := func(o Options, scope, method, path, body string) {
		t.Helper()
		c := newClient(t, o)
		answer := c.must(403, method, path, body)
		if answer.Get("category").Str != "MISSING_SCOPES" || answer.Get("context.requiredGranularScopes.0").Str != scope {
			t.Errorf("%s %s: %s", method, path, answer.Raw)
		}
		c.must(200, "GET", "/account-info/v3/details", "")
	}
	noEvents := Options{NoEnterprise: true}
	f(noEvents, "analytics.behavioral_events.send", "POST", sendPath, "{}")
	f(noEvents, "analytics.behavioral_events.send", "POST", sendPath+"/batch", "{}")
	f(noEvents, "behavioral_events.event_definitions.read_write", "GET", definitionsPath, "")
	f(Options{MissingScopes: []string{"crm.objects.contacts.write"}}, "crm.objects.contacts.write", "POST", upsertPath, upsert("a@b.co"))
	c := newClient(t, noEvents)
	c.must(200, "POST", upsertPath, upsert("a@b.co"))
}

func TestContentType(t *testing.T) {
	f := func(contentType string, want int) {
		t.Helper()
		c := newClient(t, Options{})
		r, _ := http.NewRequest("POST", "http://sandbox"+upsertPath, strings.NewReader(upsert("a@b.co")))
		r.Header.Set("Authorization", "Bearer x")
		r.Header.Set("Content-Type", contentType)
		if status, answer := c.do(r); status != want {
			t.Errorf("%q: %d %s", contentType, status, answer.Raw)
		}
	}
	f("application/json", 200)
	f("application/json; charset=utf-8", 200)
	f("", 415)
	f("text/plain", 415)
	f("application/x-www-form-urlencoded", 415)
}

// TestCorrelationID: each answer has its own, which error bodies repeat.
func TestCorrelationID(t *testing.T) {
	c := newClient(t, Options{})
	c.must(200, "GET", "/account-info/v3/details", "")
	first := c.header.Get("X-HubSpot-Correlation-Id")
	answer := c.must(400, "POST", upsertPath, upsert("000"))
	second := c.header.Get("X-HubSpot-Correlation-Id")
	if len(first) != 36 || first == second || answer.Get("correlationId").Str != second {
		t.Errorf("%q, %q, %s", first, second, answer.Raw)
	}
}

func TestBurst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newClient(t, Options{Burst: 3, Daily: 100})
		f := func(want int, remaining, daily string) {
			t.Helper()
			c.must(want, "POST", upsertPath, upsert("a@b.co"))
			if r, d := c.header.Get("X-HubSpot-RateLimit-Remaining"), c.header.Get("X-HubSpot-RateLimit-Daily-Remaining"); r != remaining || d != daily {
				t.Errorf("remaining %q and %q, want %q and %q", r, d, remaining, daily)
			}
			if c.header.Get("X-HubSpot-RateLimit-Max") != "3" || c.header.Get("X-HubSpot-RateLimit-Interval-Milliseconds") != "10000" ||
				c.header.Get("X-HubSpot-RateLimit-Daily") != "100" {
				t.Errorf("headers: %v", c.header)
			}
		}
		f(200, "2", "99")
		time.Sleep(4 * time.Second)
		f(200, "1", "98")
		f(200, "0", "97")
		answer := c.must(429, "POST", upsertPath, upsert("a@b.co"))
		if answer.Get("policyName").Str != "TEN_SECONDLY_ROLLING" || answer.Get("errorType").Str != "RATE_LIMIT" ||
			answer.Get("message").Str != "You have reached your ten_secondly_rolling limit." || answer.Get("category").Exists() {
			t.Errorf("429: %s", answer.Raw)
		}
		if c.header.Get("Retry-After") != "" {
			t.Error("Retry-After: the real one has none")
		}
		time.Sleep(6 * time.Second) // the window rolls: one call leaves it
		f(200, "0", "96")
		f(429, "0", "96")
		time.Sleep(4 * time.Second)
		f(200, "1", "95")
	})
}

// TestDaily: the count ends at midnight in the account's time zone.
func TestDaily(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 11, 21, 21, 0, 0, 0, time.UTC) // 22:00 in Berlin
	c := newClient(t, Options{Daily: 2, TimeZone: berlin, Now: func() time.Time { return now }})
	if zone := c.must(200, "GET", "/account-info/v3/details", ""); zone.Get("timeZone").Str != "Europe/Berlin" || zone.Get("utcOffset").Str != "+01:00" {
		t.Errorf("account: %s", zone.Raw)
	}
	c.must(200, "POST", contactsPath+"/search", "{}") // search counts too
	answer := c.must(429, "POST", upsertPath, upsert("a@b.co"))
	if answer.Get("policyName").Str != "DAILY" || answer.Get("message").Str != "You have reached your daily limit." {
		t.Errorf("429: %s", answer.Raw)
	}
	now = now.Add(2*time.Hour - time.Second)
	c.must(429, "POST", upsertPath, upsert("a@b.co"))
	now = now.Add(time.Second)
	c.must(200, "POST", upsertPath, upsert("a@b.co"))
}

// TestSearchLimit: five a second, outside the burst, and with a body of its own.
func TestSearchLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newClient(t, Options{Burst: 1, Daily: 100})
		for range 5 {
			c.must(200, "POST", contactsPath+"/search", "{}")
			if c.header.Get("X-HubSpot-RateLimit-Remaining") != "" || c.header.Get("X-HubSpot-RateLimit-Daily-Remaining") == "" {
				t.Errorf("headers: %v", c.header)
			}
		}
		answer := c.must(429, "POST", contactsPath+"/search", "{}")
		if answer.Get("category").Str != "RATE_LIMITS" || answer.Get("policyName").Exists() || answer.Get("message").Str != "You have reached your secondly limit." {
			t.Errorf("429: %s", answer.Raw)
		}
		time.Sleep(time.Second)
		c.must(200, "POST", contactsPath+"/search", "{}")
	})
}

// TestEventLimit: events count neither in the burst nor in the day, but have a limit of their own.
func TestEventLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newEventClient(t, Options{Burst: 2, Daily: 2, EventsPerSecond: 3})
		for range 3 {
			c.must(204, "POST", sendPath+"/batch", batch(occurrence("")))
			for name := range c.header {
				if strings.Contains(strings.ToLower(name), "ratelimit") {
					t.Errorf("header %s", name)
				}
			}
		}
		if answer := c.must(429, "POST", sendPath, occurrence("")); answer.Get("policyName").Str != "SECONDLY" {
			t.Errorf("429: %s", answer.Raw)
		}
		c.must(200, "POST", upsertPath, upsert("a@b.co"))
		time.Sleep(time.Second)
		c.must(204, "POST", sendPath, occurrence(""))
	})
}

// TestLag: definitions and search follow writes late, contacts at once.
func TestLag(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const lag = 500 * time.Millisecond
		c := newClient(t, Options{Lag: lag})
		c.must(201, "POST", propertiesPath, planTier)
		c.must(201, "POST", definitionsPath, signedUp)
		search := `{"filterGroups":[{"filters":[{"propertyName":"email","operator":"EQ","value":"a@b.co"}]}]}`
		c.must(200, "POST", upsertPath, upsert("a@b.co"))
		f := func(visible bool) {
			t.Helper()
			want := func(yes, no int) int { return map[bool]int{true: yes, false: no}[visible] }
			c.must(want(200, 404), "GET", propertiesPath+"/plan_tier", "")
			c.must(want(200, 400), "POST", upsertPath, upsert("a@b.co", "plan_tier", "pro"))
			c.must(want(200, 400), "GET", definitionsPath+"/signed_up", "")
			c.must(want(204, 400), "POST", sendPath, occurrence(""))
			if n := c.must(200, "POST", contactsPath+"/search", search).Get("total").Int(); int(n) != want(1, 0) {
				t.Errorf("visible %t: search finds %d", visible, n)
			}
			c.must(200, "GET", contactsPath+"/101", "")
			c.must(409, "POST", propertiesPath, planTier) // names are taken at once
			c.must(409, "POST", definitionsPath, signedUp)
		}
		f(false)
		time.Sleep(lag - time.Millisecond)
		f(false)
		time.Sleep(time.Millisecond)
		f(true)

		c.must(200, "PATCH", propertiesPath+"/plan_tier", `{"options":[{"label":"Ent","value":"ent"}]}`)
		c.must(400, "POST", upsertPath, upsert("a@b.co", "plan_tier", "ent"))
		time.Sleep(lag)
		c.must(200, "POST", upsertPath, upsert("a@b.co", "plan_tier", "ent"))
	})
}
