package hubspot

import (
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/tidwall/gjson"
)

// account is what is known of one HubSpot account, and its quotas. Destinations with the same token share it, and it outlives a reload.
type account struct {
	crm         *window
	events      *window
	schema      schemaCache
	definitions definitionCache

	mu     sync.Mutex // guards the fields below
	zone   *time.Location
	ask    time.Time            // when to ask for the details
	emails map[string]time.Time // addresses that HubSpot refused, until when that is believed
}

// eventsPerSecond is HubSpot's documented limit of the calls that send events, which count in no other quota.
const eventsPerSecond = 1250

func newAccount() *account {
	a := &account{
		crm:    newWindow(burstPolicy, 0, 10*time.Second),
		events: newWindow(eventsPolicy, eventsPerSecond, time.Second),
	}
	// An earlier process, or another user of the token, may have used up what there is.
	a.crm.probing = true
	a.schema.init()
	a.definitions.init()
	return a
}

const (
	// refusedEmailFor is how long the events of an address that HubSpot refused for a contact are not tried: each would cost a bisection.
	refusedEmailFor  = time.Hour
	maxRefusedEmails = 1000
)

func (a *account) refuseEmail(email string, now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.emails == nil || len(a.emails) >= maxRefusedEmails {
		a.emails = map[string]time.Time{}
	}
	a.emails[email] = now.Add(refusedEmailFor)
}

func (a *account) emailRefused(email string, now time.Time) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return now.Before(a.emails[email])
}

// afterMidnight is how long a DAILY refusal counts for the day before: the clocks differ.
const afterMidnight = 10 * time.Minute

// dayEnd is when the account's daily calls begin anew: midnight in its time zone. While the zone is unknown it is at most an hour away, which
// costs a refused call an hour.
func (a *account) dayEnd(now time.Time) time.Time {
	a.mu.Lock()
	zone := a.zone
	a.mu.Unlock()
	if zone == nil {
		return earlier(midnight(now.UTC()), now.Add(time.Hour))
	}
	local := now.In(zone)
	if end := midnight(local); end.Add(-24 * time.Hour).After(now.Add(-afterMidnight)) {
		return now.Add(afterMidnight / 2)
	}
	return midnight(local)
}

func midnight(t time.Time) time.Time {
	return time.Date(t.Year(), t.Month(), t.Day()+1, 0, 0, 0, 0, t.Location())
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

const (
	// detailsEvery is how often the account's details are asked for, and detailsAgain when that failed.
	detailsEvery = 24 * time.Hour
	detailsAgain = 10 * time.Minute
)

// detailsDue says whether the account's details are to be asked for, and does not say so again for a while.
func (a *account) detailsDue(now time.Time) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if now.Before(a.ask) {
		return false
	}
	a.ask = now.Add(detailsAgain) // put off when they come
	return true
}

func (a *account) detailsCame(now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.ask = now.Add(detailsEvery)
}

// setZone keeps the account's time zone, which HubSpot gives by name and as an offset.
func (a *account) setZone(name string, offsetMS int64) {
	zone, err := time.LoadLocation(name)
	if err != nil || name == "" {
		zone = time.FixedZone(name, int(offsetMS/1000))
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.zone = zone
}

// loadDetails learns the account's time zone and checks that the token belongs to the hub in the configuration. Nothing depends on it
// being answered.
func (d *Destination) loadDetails(ctx context.Context) {
	p, err := d.account.crm.acquire(ctx)
	if err != nil {
		return
	}
	a, err := d.client.do(ctx, p, request{endpoint: endpointAccountDetails, method: http.MethodGet, url: d.baseURL + d.paths.account})
	if err != nil || a.status != http.StatusOK {
		return
	}
	d.account.detailsCame(time.Now())
	details := gjson.GetManyBytes(a.body, "portalId", "timeZone", "utcOffsetMilliseconds")
	if details[1].Str != "" {
		d.account.setZone(details[1].Str, details[2].Int())
	}
	if hub := details[0].String(); hub != "" && hub != d.hubID {
		d.log.Error("the access token belongs to another HubSpot account than hub_id says: events will be refused and contacts are in that account",
			"hub_id", d.hubID, "token_hub_id", hub)
	}
}
