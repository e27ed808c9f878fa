package hubspot

import (
	"context"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tidwall/gjson"
)

// account is what is known of one HubSpot account by one token, and the token's quotas. Destinations with the same token share it, and it outlives a
// reload. The day's budget is the account's: its tokens share that.
type account struct {
	crm         *window
	events      *window
	search      *window
	day         *day
	schema      schemaCache
	definitions definitionCache
	creations   creations
	contactIDs  contactIDs
	unnamed     atomic.Int32 // contacts in a row that a batch read did not name and that were missing

	mu     sync.Mutex           // guards the fields below
	ask    time.Time            // when to ask for the details
	emails map[string]time.Time // addresses that HubSpot refused, until when that is believed
}

// eventsPerSecond is HubSpot's documented limit of the calls that send events, which count in no other quota.
const eventsPerSecond = 1250

// searchesPerSecond is HubSpot's documented limit of an account for all who search in it. Their answers say nothing of it, and they count in no other quota but the day's.
const searchesPerSecond = 5

func newAccount(d *day) *account {
	a := &account{
		crm:    newWindow(burstPolicy, 0, 10*time.Second, d),
		events: newWindow(eventsPolicy, eventsPerSecond, time.Second, nil),
		search: newWindow(searchPolicy, searchesPerSecond, time.Second, d),
		day:    d,
	}
	// An earlier process, or another user of the token, may have used up what there is.
	a.crm.probing = true
	a.schema.init()
	a.definitions.init()
	a.creations.init()
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

const (
	// detailsEvery is how often the account's details are asked for, and detailsAgain when that failed.
	detailsEvery = 24 * time.Hour
	detailsAgain = time.Minute
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

// loadDetails learns the account's time zone and checks that the token belongs to the hub in the configuration. Nothing depends on it
// being answered.
func (d *Destination) loadDetails(ctx context.Context) {
	p, err := d.acquire(ctx, d.account.crm, d.terms)
	if err != nil {
		return
	}
	a, err := d.do(ctx, p, request{endpoint: endpointAccountDetails, method: http.MethodGet, url: d.baseURL + d.paths.account})
	if err != nil || a.status != http.StatusOK {
		return
	}
	d.account.detailsCame(time.Now())
	details := gjson.GetManyBytes(a.body, "portalId", "timeZone", "utcOffsetMilliseconds")
	if details[1].Str != "" {
		d.account.day.setZone(details[1].Str, details[2].Int())
	}
	if hub := details[0].String(); hub != "" && hub != d.hubID {
		d.log.Error("the access token belongs to another HubSpot account than hub_id says: events will be refused and contacts are in that account",
			"hub_id", d.hubID, "token_hub_id", hub)
	}
}
