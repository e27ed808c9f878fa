// Package hubspot delivers to HubSpot: user_identify events become contact create-or-update calls, every other event a custom
// behavioral event of the contact with its e-mail.
//
//	event ─ Plan ─▶ contacts lane ─ merge by e-mail, map by schema ─▶ batch/upsert, ≤ 100 contacts
//	              ▶ events lane   ─ definition, properties, uuid   ─▶ events/send/batch, ≤ 500 events
//
// HubSpot's own words decide what happens next: one bad property is dropped, not its contact; one bad contact is rejected, not its batch.
// Contacts count in the account's rolling quota, which the answers' headers teach; events have a limit of their own.
package hubspot

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"runtime/debug"
	"strings"
	"time"

	"eventrouter/pkg/config"
	"eventrouter/pkg/destinations"
	"eventrouter/pkg/filters"
)

// Names of the lanes.
const (
	laneContacts = "contacts"
	laneEvents   = "events"
)

// Limits of HubSpot's batch calls, and ours on what is held in memory for one.
const (
	maxContacts   = 100
	maxEvents     = 500
	maxBatchBytes = 8 << 20
	// callsInFlight is how many contacts calls may wait for an answer. The quota allows 19 to 25 a second, so this uses it up while an answer takes
	// less than about 0.7 s; when they are faster there are fewer in flight, for calls are spread.
	callsInFlight  = 16
	eventsInFlight = 4
)

// Settings are what stands under `hubspot:` or `config:` of a destination of this type.
type Settings struct {
	AccessToken config.Secret `yaml:"access_token"` // of a private app, or a service key; required
	APIKey      config.Secret `yaml:"api_key"`      // of no use any more
	HubID       config.Text   `yaml:"hub_id"`       // number of the HubSpot account; required
	BaseURL     string        `yaml:"base_url"`
	EventsURL   string        `yaml:"events_url"`  // default: base_url
	APIVersion  config.Text   `yaml:"api_version"` // of the CRM calls: 2026-03, 2026-09, v3
	// LateAfter is how late HubSpot may still apply a call that got no answer.
	LateAfter time.Duration `yaml:"late_after"`
	// DailyBudget is how many calls a day this router may make in the account; 0: all that the account has.
	DailyBudget int `yaml:"daily_budget"`
	// QuotaShare is the part of the account's limits that this router may use, of ten seconds and of what the day begins with.
	QuotaShare float64 `yaml:"quota_share"`
	// IDProperty is the property that identifies contacts: email, another one with unique values, or hs_object_id.
	IDProperty string `yaml:"id_property"`
	MissingKey string `yaml:"missing_key"` // what happens to events without one: skip, reject
	// ContactEvents are event types that write the contact too: a list, or all.
	ContactEvents config.Words       `yaml:"contact_events"`
	TimeZone      string             `yaml:"time_zone"` // whose calendar days dates are
	Properties    PropertiesSettings `yaml:"properties"`
	Events        EventsSettings     `yaml:"events"`
}

// EventsSettings are what stands under `events:`.
type EventsSettings struct {
	Map              map[string]string       `yaml:"map"`                 // event type: the event's name in HubSpot
	Only             []string                `yaml:"only"`                // make custom events of no other event types
	Except           []string                `yaml:"except"`              // make none of these
	Create           bool                    `yaml:"create"`              // make event definitions and properties that are missing
	Define           []string                `yaml:"define"`              // event names that are made in any case
	NewPerAccount    int                     `yaml:"new_per_account"`     // most definitions to make, in all
	BrowserNewPerDay int                     `yaml:"browser_new_per_day"` // of those first seen under a browser key, most in a day (UTC)
	Anonymous        string                  `yaml:"anonymous"`           // visitors without an e-mail: skip, utk
	Properties       EventPropertiesSettings `yaml:"properties"`
	// Hold is how old an event may become while the account lacks the tier or scope for custom events.
	Hold time.Duration `yaml:"hold"`
}

// DefaultSettings are the settings of a file that says nothing.
func DefaultSettings() Settings {
	return Settings{
		BaseURL:    "https://api.hubapi.com",
		APIVersion: "2026-03",
		LateAfter:  100 * time.Second,
		QuotaShare: 1,
		IDProperty: emailProperty,
		MissingKey: missingSkip,
		TimeZone:   "UTC",
		Properties: PropertiesSettings{
			Null: nullIgnore, Unknown: unknownStrip, Options: optionsKeep, Group: "contactinformation",
			NewPerAccount: 100, NewOptionsPerProperty: 200,
		},
		Events: EventsSettings{Create: true, NewPerAccount: 100, BrowserNewPerDay: 20, Anonymous: anonymousSkip, Hold: 72 * time.Hour},
	}
}

// Destination delivers to one HubSpot account.
type Destination struct {
	hubID     string
	baseURL   string
	eventsURL string
	paths     paths
	lateAfter time.Duration
	terms     terms
	events    EventsSettings
	contacts  *contacts
	rules     *eventRules

	log     *slog.Logger
	cache   destinations.Cache
	metrics *destinations.Metrics
	client  *client
	account *account
	// connections and of are of an account of a customer: where its tokens come from, and its name. nil and "": the token is the settings'.
	connections destinations.Connections
	of          string

	tier standing
	// tierNews is of the destination of a customer's account, and told by one for all of them; nil: the account is the only one.
	tierNews *tierNews
	// simulation: the remote is a stand-in without lag, and details tell more.
	simulation bool

	contactPoison, eventPoison suspects
}

// New checks the settings and makes the destination. It makes no call: HubSpot may be down.
func New(s config.Settings, env destinations.Env) (destinations.Destination, error) {
	set := DefaultSettings()
	if env.AppURL != "" {
		set.BaseURL = env.AppURL
	}
	var problems config.Problems
	if err := s.Decode(&set); err != nil && !errors.As(err, &problems) {
		return nil, err
	}
	problems = problems.With(set.check(s, env.Connections != nil))
	log := env.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	log = log.With("destination", env.Name)
	options := filters.Options{Destination: env.Name, Type: "hubspot"}
	if env.Simulation {
		options.Limit = filters.PatientLimit
	}
	contacts, ps := set.compileContacts(s, options, log)
	problems = append(problems, ps...)
	rules, ps := set.compileEvents(s, options, contacts.zone, log)
	problems = append(problems, ps...)
	if err := problems.Sorted().Err(); err != nil {
		return nil, err
	}
	if set.APIKey != "" {
		log.Warn("api_key is not used: HubSpot switched API keys off on 2022-11-30; access_token is; remove api_key")
	}
	if env.Shared == nil {
		env.Shared = &destinations.Shared{}
	}
	if env.Transport == nil {
		env.Transport = destinations.Of(env.Shared, "hubspot/transport", newTransport)
	}
	d := &Destination{
		hubID: string(set.HubID), baseURL: trimURL(set.BaseURL), eventsURL: trimURL(set.EventsURL),
		paths: versions[string(set.APIVersion)], lateAfter: set.LateAfter,
		terms:  terms{share: set.QuotaShare, daily: set.DailyBudget, patient: true},
		events: set.Events, contacts: contacts, rules: rules,
		log: log, cache: env.Cache, metrics: env.Metrics, simulation: env.Simulation,
	}
	if d.eventsURL == "" {
		d.eventsURL = d.baseURL
	}
	if env.Connections != nil {
		return newAccounts(d, env), nil
	}
	today := destinations.Of(env.Shared, d.cacheKey("day"), newDay)
	today.remember(d.cache, d.cacheKey("day"))
	d.account = destinations.Of(env.Shared, d.accountKey(set.AccessToken), func() *account { return newAccount(today) })
	d.client = newClient(env, d.account, set.AccessToken)
	d.metrics.QuotaRemaining(env.Name, d.quotaLeft)
	return d, nil
}

// check reports everything that is wrong with the settings.
func (set *Settings) check(s config.Settings, connected bool) (ps config.Problems) {
	fail := func(key, format string, args ...any) { ps = append(ps, s.Problem(key, format, args...)) }
	switch {
	case connected:
		if set.AccessToken != "" {
			fail("access_token", "must be absent with `connection`: each account has a token of its own")
		}
		if set.HubID != "" {
			fail("hub_id", "must be absent with `connection`: each account has a hub of its own")
		}
	case set.AccessToken == "" && set.APIKey != "":
		fail("api_key", "HubSpot switched API keys off on 2022-11-30; make a private app or a service key in HubSpot and write its token as access_token")
	case set.AccessToken == "":
		fail("access_token", "is required: the token of a HubSpot private app or service key")
	case strings.ContainsFunc(string(set.AccessToken), func(r rune) bool { return r <= ' ' || r > '~' }):
		fail("access_token", "holds a character that no token has (a space or a line break?)")
	}
	switch {
	case connected:
	case set.HubID == "":
		fail("hub_id", "'hub_id' is required parameter: the number of the HubSpot account")
	case !isDigits(string(set.HubID)):
		fail("hub_id", "must be the number of the HubSpot account, digits only")
	}
	if !isBaseURL(set.BaseURL) {
		fail("base_url", "must be an http or https URL without query")
	}
	if set.EventsURL != "" && !isBaseURL(set.EventsURL) {
		fail("events_url", "must be an http or https URL without query")
	}
	if _, ok := versions[string(set.APIVersion)]; !ok {
		fail("api_version", "must be 2026-03, 2026-09 or v3")
	}
	if set.LateAfter <= 0 {
		fail("late_after", "must be more than 0")
	}
	if set.DailyBudget < 0 {
		fail("daily_budget", "must not be negative; 0 is no limit")
	}
	if set.QuotaShare <= 0 || set.QuotaShare > 1 {
		fail("quota_share", "must be more than 0 and at most 1, such as 0.8 to leave a fifth of the account's calls to others")
	}
	if set.Events.NewPerAccount < 0 {
		fail("events.new_per_account", "must not be negative")
	}
	if set.Events.BrowserNewPerDay < 0 {
		fail("events.browser_new_per_day", "must not be negative")
	}
	if set.Events.Hold < 0 {
		fail("events.hold", "must not be negative")
	}
	return ps
}

func isBaseURL(s string) bool {
	u, err := url.Parse(s)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != "" && u.RawQuery == "" && u.Fragment == "" && u.User == nil
}

func trimURL(s string) string { return strings.TrimRight(s, "/") }

// newTransport keeps as many connections to one host as there are calls in flight.
func newTransport() http.RoundTripper {
	return destinations.NewTransport(2 * (callsInFlight + eventsInFlight))
}

// accountKey names what destinations of one account and token share. The token goes in as a hash: burst limits are each app's own.
func (d *Destination) accountKey(token config.Secret) string {
	sum := sha256.Sum256([]byte(token))
	return strings.Join([]string{"hubspot", d.baseURL, d.eventsURL, d.hubID, hex.EncodeToString(sum[:8])}, "|")
}

// cacheKey names a value in the router's cache.
func (d *Destination) cacheKey(what string) string { return cacheKey(d.baseURL, d.hubID, what) }

func cacheKey(baseURL, hubID, what string) string {
	return strings.Join([]string{"hubspot", baseURL, hubID, what}, "|")
}

// dayKey names what is kept of a hub's day.
func dayKey(baseURL, hubID string) string { return cacheKey(baseURL, hubID, "day") }

// Lanes implements [destinations.Destination].
func (d *Destination) Lanes() []destinations.LaneSpec {
	return []destinations.LaneSpec{
		{
			Name: laneContacts, MaxKeys: maxContacts, MaxBytes: maxBatchBytes, InFlight: callsInFlight,
			LateAfter: d.lateAfter, MarksKeys: true, Remembers: true,
		},
		// Events carry a uuid that HubSpot takes once, so a call may be repeated at any time.
		{Name: laneEvents, MaxEntries: maxEvents, MaxBytes: maxBatchBytes, InFlight: eventsInFlight},
	}
}

// Hub implements [destinations.Destination].
func (d *Destination) Hub(string) string { return d.hubID }

// Send implements [destinations.Destination].
func (d *Destination) Send(ctx context.Context, p destinations.Permit, batch []destinations.Entry) []destinations.Outcome {
	out := make([]destinations.Outcome, len(batch))
	if len(batch) == 0 {
		p.Release()
		return out
	}
	held, ok := p.(*permit)
	if !ok {
		panic(fmt.Sprintf("BUG: permit of another destination: %T", p))
	}
	ps := &permits{d: d, first: held}
	defer ps.release()
	refreshed := d.refresh(ctx)
	d.sendWanted(ctx, ps, batch, out)
	ps.release() // the refresh may need it
	<-refreshed
	return out
}

// sendWanted sends what the account has not switched off.
func (d *Destination) sendWanted(ctx context.Context, ps *permits, batch []destinations.Entry, out []destinations.Outcome) {
	send := d.sendContacts
	if batch[0].Plan.Lane == laneEvents {
		send = d.sendEvents
	}
	off := d.choices().EventTypes
	if len(off) == 0 {
		send(ctx, ps, batch, out)
		return
	}
	var wanted []destinations.Entry
	var places []int
	for i := range batch {
		if off[batch[i].Event.Type()] {
			out[i].Err = destinations.Skip(switchedOff)
			continue
		}
		wanted, places = append(wanted, batch[i]), append(places, i)
	}
	if len(wanted) == 0 {
		return
	}
	sent := make([]destinations.Outcome, len(wanted))
	send(ctx, ps, wanted, sent)
	for n, i := range places {
		out[i] = sent[n]
	}
}

// choices are what the account does not want.
func (d *Destination) choices() destinations.Choices {
	if d.connections == nil {
		return destinations.Choices{}
	}
	return d.connections.Choices(d.of)
}

// refresh loads what has become stale, beside the calls of a Send, which go by the old until it is there. The channel is closed when
// it is done.
func (d *Destination) refresh(ctx context.Context) <-chan struct{} {
	done := make(chan struct{})
	now := time.Now()
	schema := d.account.schema.get()
	staleSchema := schema != nil && schema.stale(now)
	staleDefinitions := d.account.definitions.stale(now)
	details := schema != nil && d.account.detailsDue(now)
	if !staleSchema && !staleDefinitions && !details {
		close(done)
		return done
	}
	go func() {
		defer close(done)
		defer func() {
			if p := recover(); p != nil { // no entry is at fault, so none is to pay for it
				d.log.Error("what is known of the account is not refreshed, and stays in use: a fault of the router", "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			}
		}()
		ctx, cancel := context.WithTimeout(ctx, refreshTimeout)
		defer cancel()
		ps := &permits{d: d}
		if staleSchema {
			d.refreshSchema(ctx, ps, schemaAgain)
		}
		if staleDefinitions {
			d.refreshDefinitions(ctx, ps)
		}
		if details {
			d.loadDetails(ctx)
		}
	}()
	return done
}
