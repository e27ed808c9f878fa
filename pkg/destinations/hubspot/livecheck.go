package hubspot

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"time"

	"github.com/tidwall/gjson"

	"eventrouter/pkg/destinations"
)

// What a live check looks at.
const (
	checkToken      = "token"
	checkAccount    = "account"
	checkScopes     = "scopes"
	checkTier       = "tier"
	checkProperties = "properties"
	checkEvents     = "events"
	checkQuota      = "quota"
)

// Endpoints of calls that only a live check makes, for metrics.
const (
	endpointTokenInfo = "token.info"
	endpointContacts  = "contacts.list"
	endpointGroups    = "contacts.property_groups"
)

// tokenInfoPath tells what a private app's token may do. It is a read although it is a POST: the token stands in the body so that it
// is in no URL.
const tokenInfoPath = "/oauth/v2/private-apps/get/access-token-info"

// liveCheck is one run of Test.
type liveCheck struct {
	d        *Destination
	ps       *permits
	findings []destinations.Finding
	over     bool  // nothing more can be learned
	rates    rates // of the newest answer that has any
	answered bool
}

// Test implements [destinations.Tester]. It makes about six calls, which take their quota like all others, and writes nothing.
func (d *Destination) Test(ctx context.Context) []destinations.Finding {
	c := &liveCheck{d: d, ps: &permits{d: d}, rates: rates{max: -1, remaining: -1, daily: -1, dailyRemaining: -1}}
	defer c.ps.release()
	c.account(ctx)
	held := c.tokenScopes(ctx)
	definitions := c.definitions(ctx)
	schema := c.schema(ctx)
	if !c.over {
		c.scopes(ctx, held, schema.status, definitions.status)
	}
	if !c.over {
		c.tier(held, definitions)
		c.properties(ctx, schema)
		c.events(definitions)
	}
	if c.over {
		c.add("rest", destinations.FindingUnknown, "was not looked at: its calls would fail in the same way", "")
	} else {
		c.quota()
	}
	return c.findings
}

// add reports a finding. Whoever answers may have repeated the token in any member.
func (c *liveCheck) add(check string, level destinations.FindingLevel, text, fix string) {
	token := c.d.client.token
	clean := func(s string) string { return strings.ReplaceAll(s, string(token), token.String()) }
	c.findings = append(c.findings, destinations.Finding{Check: check, Level: level, Text: clean(text), Fix: clean(fix)})
}

// end reports why nothing more can be learned.
func (c *liveCheck) end(check string, text, fix string) {
	c.over = true
	c.add(check, destinations.FindingError, text, fix)
}

// tries is how often a call is made that the rolling quota refuses.
const tries = 3

// call makes one call. It returns nil, having said why, when no call would be answered otherwise; what the others know of its status
// is theirs to judge.
func (c *liveCheck) call(ctx context.Context, r request) *answer {
	for range tries {
		if c.over {
			return nil
		}
		p, err := c.ps.next(ctx, c.d.account.crm)
		if err != nil {
			c.noPermit(err)
			return nil
		}
		a, err := c.d.do(ctx, p, r)
		if err != nil {
			c.end(checkAccount, fmt.Sprintf("%s does not answer: %s", c.d.baseURL, lostText(err)),
				"check base_url, and that this machine may reach it (DNS, proxy, firewall)")
			return nil
		}
		if got := parseRates(a.header); got.max > 0 || got.daily > 0 {
			c.rates = got
		}
		if a.status == http.StatusTooManyRequests && parseRefusal(a.body).policy != "DAILY" {
			continue // next waits until the quota allows another
		}
		// What tells of tokens may know this one not although it is good.
		if r.endpoint != endpointTokenInfo && c.refused(a) {
			return nil
		}
		c.answered = true
		return a
	}
	c.end(checkQuota, fmt.Sprintf("HubSpot refuses calls because too many are made (429), %d times in a row", tries),
		"another program uses the same token, or the account's calls are all used: give each program a token of its own")
	return nil
}

// refused reports an answer that would be the same for all calls.
func (c *liveCheck) refused(a *answer) bool {
	switch {
	case a.status == http.StatusUnauthorized:
		c.end(checkToken, "HubSpot does not accept the access token (401)",
			"copy the token of the private app or service key again and set access_token to it; it may have been rotated, deleted or deactivated")
	case a.status == http.StatusTooManyRequests:
		c.dayIsOver()
	case a.status == statusMigrating:
		text := "HubSpot moves the account to another data centre (477) and takes no calls"
		if wait := a.retryAfter(time.Now()); wait > 0 {
			text += fmt.Sprintf(" for another %v", wait.Round(time.Second))
		}
		c.end(checkAccount, text, "wait; nothing is lost meanwhile")
	case a.status >= 500, a.status == http.StatusRequestTimeout, a.status == statusLocked:
		c.end(checkAccount, "HubSpot has a problem: "+a.err().Error(), "try again later; status.hubspot.com tells of outages")
	case a.status >= 300 && a.status < 400:
		c.end(checkAccount, fmt.Sprintf("%s redirects (%d): it is not HubSpot's API", c.d.baseURL, a.status), "check base_url and events_url")
	default:
		return false
	}
	return true
}

func (c *liveCheck) noPermit(err error) {
	var block *destinations.BlockError
	if errors.As(err, &block) { // the account's own limit, or daily_budget or quota_share
		c.end(checkQuota, block.Error(), "nothing is lost meanwhile; raise daily_budget or quota_share if they are the limit")
		return
	}
	c.over = true
	c.add(checkQuota, destinations.FindingUnknown, "no call could be made in time: other calls of this router use up the quota", "try again")
}

func (c *liveCheck) dayIsOver() {
	c.end(checkQuota, "the account's calls for today are used up; deliveries go on at about "+c.d.account.day.ends(time.Now()).Format("2006-01-02 15:04 MST"),
		"nothing is lost meanwhile; to have more, see what else uses the account's calls, or buy more in HubSpot")
}

// lostText is an error of a call without the words that all have.
func lostText(err error) string {
	return shorten(strings.TrimPrefix(err.Error(), "no answer from HubSpot: "))
}

// account checks the token by asking which account it belongs to.
func (c *liveCheck) account(ctx context.Context) {
	a := c.call(ctx, request{endpoint: endpointAccountDetails, method: http.MethodGet, url: c.d.baseURL + c.d.paths.account})
	if a == nil {
		return
	}
	if !a.whole() {
		c.add(checkAccount, destinations.FindingUnknown, "it can not be found out which account the token belongs to: "+a.strange(), "check base_url")
		return
	}
	c.add(checkToken, destinations.FindingOK, "HubSpot accepts the access token", "")
	is := gjson.ParseBytes(a.body)
	if name := is.Get("timeZone").Str; name != "" {
		c.d.account.day.setZone(name, is.Get("utcOffsetMilliseconds").Int())
	}
	switch hub := is.Get("portalId").String(); hub {
	case c.d.hubID:
		text := "the token is for account " + hub
		for _, m := range [...][2]string{{"accountType", "type"}, {"timeZone", "time zone"}, {"dataHostingLocation", "data in"}} {
			if v := is.Get(m[0]).Str; v != "" {
				text += fmt.Sprintf(", %s %s", m[1], shorten(v))
			}
		}
		c.add(checkAccount, destinations.FindingOK, text, "")
	case "":
		c.add(checkAccount, destinations.FindingUnknown, "HubSpot does not say which account the token belongs to", "")
	default:
		c.add(checkAccount, destinations.FindingError, fmt.Sprintf("the token is for account %s, but hub_id is %s", shorten(hub), c.d.hubID),
			fmt.Sprintf("set hub_id: \"%s\" if that account is meant, or use a token of account %s", shorten(hub), c.d.hubID))
	}
}

// whole reports whether the answer is what was asked for.
func (a *answer) whole() bool { return a.status == http.StatusOK && json.Valid(a.body) }

// strange says what is wrong with an answer that is not whole. The words of a success are not shown: whoever gave it may have repeated
// the request.
func (a *answer) strange() string {
	if a.status < http.StatusMultiStatus {
		return "the answer is not HubSpot's"
	}
	return a.err().Error()
}

// schemaSeen is what a list of contact properties answered.
type schemaSeen struct {
	status int // 0: nothing
	body   []byte
	words  string // of an answer that is no list
}

// schema loads the account's contact properties.
func (c *liveCheck) schema(ctx context.Context) schemaSeen {
	a := c.call(ctx, request{endpoint: endpointProperties, method: http.MethodGet, url: c.d.baseURL + c.d.paths.properties})
	switch {
	case a == nil:
		return schemaSeen{}
	case a.whole():
		return schemaSeen{status: a.status, body: a.body}
	}
	return schemaSeen{status: max(a.status, http.StatusMultiStatus), words: a.strange()}
}

// definitionsSeen is what a list of event definitions answered.
type definitionsSeen struct {
	status int // 0: nothing
	list   map[string]*definition
	words  string // of an answer that is no list
}

// definitions loads all pages of the account's event definitions.
func (c *liveCheck) definitions(ctx context.Context) (seen definitionsSeen) {
	seen.list = map[string]*definition{}
	after := ""
	for range maxDefinitionPages {
		a := c.call(ctx, request{endpoint: endpointDefinitions, method: http.MethodGet, url: c.d.definitionsPage(after)})
		if a == nil {
			return definitionsSeen{}
		}
		seen.status = a.status
		page, next, err := parseDefinitions(a.body, c.d.hubID)
		if err != nil || !a.whole() {
			return definitionsSeen{status: max(a.status, http.StatusMultiStatus), words: a.strange()}
		}
		maps.Copy(seen.list, page)
		if next == "" || next == after {
			break
		}
		after = next
	}
	return seen
}

// quota tells what is left.
func (c *liveCheck) quota() {
	r := c.rates
	if !c.answered || r.max <= 0 && r.daily <= 0 {
		c.add(checkQuota, destinations.FindingUnknown, "HubSpot does not tell the account's limits", "")
		return
	}
	text := "HubSpot names no limit of calls in ten seconds"
	if r.max > 0 {
		interval := r.interval
		if interval <= 0 {
			interval = 10 * time.Second
		}
		text = fmt.Sprintf("%d of %d calls in %v are left", max(0, r.remaining), r.max, interval)
	}
	level, fix := destinations.FindingOK, ""
	if r.daily > 0 {
		text += fmt.Sprintf(", %d of %d today", max(0, r.dailyRemaining), r.daily)
		if r.dailyRemaining < r.daily/20 {
			level, fix = destinations.FindingWarning, "the day's calls are almost used up: see what else uses the account's calls"
		}
	}
	if budget := c.d.terms.daily; budget > 0 {
		text += fmt.Sprintf("; the router makes at most %d a day (daily_budget)", budget)
	}
	if share := c.d.terms.share; share < 1 {
		text += fmt.Sprintf("; %g of the calls are the router's (quota_share)", share)
	}
	c.add(checkQuota, level, text, fix)
}
