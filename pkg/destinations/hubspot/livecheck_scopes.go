package hubspot

import (
	"context"
	"net/http"
	"slices"
	"strings"

	"github.com/tidwall/gjson"

	"eventrouter/pkg/destinations"
	"eventrouter/pkg/event"
)

// Scopes that calls need.
const (
	scopeReadContacts  = "crm.objects.contacts.read"
	scopeWriteContacts = "crm.objects.contacts.write"
	scopeReadSchema    = "crm.schemas.contacts.read"
	scopeWriteSchema   = "crm.schemas.contacts.write"
	scopeSendEvents    = "analytics.behavioral_events.send"
	scopeDefinitions   = "behavioral_events.event_definitions.read_write"
)

// tokenScopes asks what the token may do; nil when HubSpot does not say, as for tokens that no private app has.
func (c *liveCheck) tokenScopes(ctx context.Context) []string {
	body := event.AppendString([]byte(`{"tokenKey":`), string(c.d.client.token))
	a := c.call(ctx, request{endpoint: endpointTokenInfo, method: http.MethodPost, url: c.d.baseURL + tokenInfoPath, body: append(body, '}')})
	if a == nil || !a.whole() {
		return nil
	}
	return texts(gjson.GetBytes(a.body, "scopes"))
}

// scopeNeed is a scope that the configuration makes necessary.
type scopeNeed struct {
	name  string
	level destinations.FindingLevel // when it is missing
	use   string                    // "to ..."
	held  answerTo
}

// answerTo a question that HubSpot may leave open.
type answerTo int

const (
	unknown answerTo = iota
	yes
	no
)

func answerOf(known, is bool) answerTo {
	switch {
	case !known:
		return unknown
	case is:
		return yes
	}
	return no
}

// shown is what the status of a read tells of the scope that it needs; said is what was known before.
func shown(status int, said answerTo) answerTo {
	switch status {
	case http.StatusOK:
		return yes
	case http.StatusForbidden:
		return no
	}
	return said
}

// scopes reports which scopes are missing. What reads show, by their statuses, goes before what HubSpot says of the token.
func (c *liveCheck) scopes(ctx context.Context, held []string, schema, definitions int) {
	needs := c.d.needs()
	for i := range needs {
		n := &needs[i]
		n.held = answerOf(held != nil, slices.Contains(held, n.name))
		switch n.name {
		case scopeReadContacts:
			n.held = c.mayReadContacts(ctx, n.held)
		case scopeReadSchema:
			n.held = shown(schema, n.held)
		case scopeDefinitions:
			if definitions == http.StatusOK { // a 403 may be the tier's
				n.held = yes
			}
		}
	}
	if c.over {
		return
	}
	var fine []string
	for _, n := range needs {
		switch n.held {
		case yes:
			fine = append(fine, n.name)
		case no:
			c.add(checkScopes, n.level, "the token lacks the scope "+n.name+", which is needed "+n.use, "add the scope to the private app or service key in HubSpot"+n.where())
		case unknown:
			c.add(checkScopes, destinations.FindingUnknown, "HubSpot does not tell whether the token has the scope "+n.name+", which is needed "+n.use,
				"look at the scopes of the private app or service key in HubSpot; the first delivery will show")
		}
	}
	if len(fine) > 0 {
		c.add(checkScopes, destinations.FindingOK, "the token has "+strings.Join(fine, ", "), "")
	}
}

// where says what a scope of custom events presupposes.
func (n *scopeNeed) where() string {
	if n.name == scopeSendEvents || n.name == scopeDefinitions {
		return "; only accounts with an Enterprise tier offer it"
	}
	return ""
}

// needs lists the scopes that the configuration makes necessary.
func (d *Destination) needs() []scopeNeed {
	ps := d.contacts.properties
	needs := []scopeNeed{
		{name: scopeWriteContacts, level: destinations.FindingError, use: "to write contacts"},
		{name: scopeReadSchema, level: destinations.FindingError, use: "to know the types of properties"},
	}
	reads := false
	for _, p := range ps.policies {
		reads = reads || p == ifEmpty || p == force
	}
	if reads {
		needs = append(needs, scopeNeed{name: scopeReadContacts, level: destinations.FindingError, use: "to see what properties hold (if_empty, force)"})
	} else if d.contacts.ownKey() {
		needs = append(needs, scopeNeed{name: scopeReadContacts, level: destinations.FindingWarning, use: "to find the contacts of events without an e-mail (id_property)"})
	}
	if ps.create || ps.addOption {
		needs = append(needs, scopeNeed{name: scopeWriteSchema, level: destinations.FindingWarning, use: "to make properties and options"})
	}
	use := "to read which custom events are defined"
	if d.events.Create {
		use = "to define custom events"
	}
	return append(
		needs,
		scopeNeed{name: scopeSendEvents, level: destinations.FindingWarning, use: "to send custom events"},
		scopeNeed{name: scopeDefinitions, level: destinations.FindingWarning, use: use},
	)
}

// Lacks says what is not delivered to accounts that have granted no more than scopes; events says whether custom events are meant to be.
func (a *Accounts) Lacks(scopes []string, events bool) (texts []string) {
	var ofEvents []string
	for _, n := range a.base.needs() {
		switch {
		case slices.Contains(scopes, n.name):
		case n.name == scopeSendEvents || n.name == scopeDefinitions:
			ofEvents = append(ofEvents, n.name)
		default:
			texts = append(texts, "no account grants "+n.name+", which is needed "+n.use+": add it to scopes of the app, here and in HubSpot")
		}
	}
	if events && len(ofEvents) > 0 {
		texts = append(texts, "no account gets custom events: add "+strings.Join(ofEvents, " and ")+" to optional_scopes of the app, here and in HubSpot, or send contacts alone: filter: {event_type: user_identify}")
	}
	return texts
}

// mayReadContacts tries a read of one contact.
func (c *liveCheck) mayReadContacts(ctx context.Context, said answerTo) answerTo {
	a := c.call(ctx, request{endpoint: endpointContacts, method: http.MethodGet, url: c.d.baseURL + c.d.paths.contacts + "?limit=1&properties=email"})
	if a == nil {
		return unknown
	}
	return shown(a.status, said)
}

// contactsAlone says how to do without custom events.
const contactsAlone = `to send contacts alone, set data_layout: {table_name_template: '$.event_type == "user_identify"'}`

// tier reports whether the account may have custom events. HubSpot refuses them in the same words when the token lacks the scope.
func (c *liveCheck) tier(held []string, definitions definitionsSeen) {
	switch {
	case definitions.status == http.StatusOK:
		c.add(checkTier, destinations.FindingOK, "the account may have custom events", "")
	case definitions.status != http.StatusForbidden:
		c.add(checkTier, destinations.FindingUnknown, "the definitions of custom events can not be read: "+definitions.words, "check base_url, events_url and api_version")
	case slices.Contains(held, scopeDefinitions):
		c.add(checkTier, destinations.FindingWarning, "the account has no Enterprise tier: HubSpot takes no custom events from it (403), only contacts",
			"custom events need Enterprise of any hub; "+contactsAlone)
	default:
		c.add(checkTier, destinations.FindingUnknown, "HubSpot refuses custom events (403): the token lacks the scope for them, or the account the Enterprise tier",
			"custom events need Enterprise of any hub, and the two scopes for them; "+contactsAlone)
	}
}
