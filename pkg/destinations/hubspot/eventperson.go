package hubspot

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/tidwall/gjson"

	"eventrouter/pkg/destinations"
	"eventrouter/pkg/event"
)

// person is who did what an event says, as HubSpot can be told. It takes the contact's number before the e-mail, and that before the
// token of the visitor's browser.
type person struct {
	objectID, email, utk string
	lookedUp             bool       // the number is not the event's own
	lost                 []stripped // what the event has and what is left out
}

func (p *person) none() bool { return p.objectID == "" && p.email == "" && p.utk == "" }

func (p *person) loseEmail(reason string) {
	p.email = ""
	p.lost = append(p.lost, stripped{emailProperty, reason})
}

// names lists what identifies the person to HubSpot, what it goes by first.
func (p *person) names() (names []string) {
	for _, id := range [...]struct{ name, value string }{
		{objectIDIdentity, p.objectID}, {emailProperty, p.email}, {utkIdentity, p.utk},
	} {
		if id.value != "" {
			names = append(names, id.name)
		}
	}
	return names
}

// utkField is where HubSpot's tracking code keeps the visitor's token: the name of its cookie, under which events carry it.
const utkField = "hubspotutk"

// Names of identities in details; the e-mail's is that of the property.
const (
	objectIDIdentity = "object_id"
	utkIdentity      = "utk"
)

// eventPerson reads who an event is about; id is what identifies its contact, "" when nothing does. What cannot be an identity is left out.
func (c *contacts) eventPerson(ev *event.Event, id string) (p person) {
	if c.key == emailProperty && id != "" {
		p.email = id
	} else if email, err := c.email(ev); err != nil {
		p.loseEmail(reasonValue)
	} else {
		p.email = email
	}
	if c.key == objectIDProperty && id != "" {
		p.objectID = id
	} else if bytes.Contains(ev.JSON, []byte(objectIDProperty)) {
		p.readObjectID(ev.User().Get(objectIDProperty))
	}
	if bytes.Contains(ev.JSON, []byte(utkField)) {
		if p.utk = findUTK(ev.JSON); p.utk != "" && !isUTK(p.utk) {
			p.utk = ""
			p.lost = append(p.lost, stripped{utkIdentity, reasonValue})
		}
	}
	return p
}

// readObjectID takes the number of the contact from the event's user.
func (p *person) readObjectID(v gjson.Result) {
	if absent(v) {
		return
	}
	text, _ := plainText(v)
	// Of one contact there is one number.
	if text = strings.TrimLeft(strings.TrimSpace(text), "0"); isObjectID(text) {
		p.objectID = text
	} else {
		p.lost = append(p.lost, stripped{objectIDIdentity, reasonValue})
	}
}

// isObjectID says whether s can be a contact's number.
func isObjectID(s string) bool { return len(s) <= maxObjectID && isDigits(s) }

// isUTK says whether s can be a visitor's token: HubSpot makes them of 32 hexadecimal digits. Others of that kind pass.
func isUTK(s string) bool {
	if len(s) < 16 || len(s) > 64 {
		return false
	}
	for i := range len(s) {
		if c := s[i]; c != '-' && !isWord(c) {
			return false
		}
	}
	return true
}

// findUTK looks for the visitor's token where SDKs put it: a field of the event, of its user or of its ids, in the compatibility format
// too, or the cookies of the request that the event tells of.
func findUTK(json []byte) string {
	root := gjson.ParseBytes(json)
	for _, at := range [...]gjson.Result{root, root.Get("eventn_ctx")} {
		for _, path := range [...]string{utkField, "user." + utkField, "ids." + utkField} {
			if v := at.Get(path); v.Type == gjson.String && strings.TrimSpace(v.Str) != "" {
				return strings.TrimSpace(v.Str)
			}
		}
		for _, name := range [...]string{"__HTTP_CONTEXT__", "headers"} {
			if utk := headerUTK(at.Get(name)); utk != "" {
				return utk
			}
		}
	}
	return ""
}

// headerUTK looks for the token among request headers, or an object that holds them under `headers`.
func headerUTK(headers gjson.Result) (utk string) {
	if !headers.IsObject() {
		return ""
	}
	headers.ForEach(func(k, v gjson.Result) bool {
		switch {
		case strings.EqualFold(k.Str, "cookie") && v.Type == gjson.String:
			utk = cookieUTK(v.Str)
		case strings.EqualFold(k.Str, "cookie") && v.IsArray():
			v.ForEach(func(_, line gjson.Result) bool {
				utk = cookieUTK(line.Str)
				return utk == ""
			})
		case strings.EqualFold(k.Str, "headers") && v.IsObject():
			v.ForEach(func(k, v gjson.Result) bool {
				if strings.EqualFold(k.Str, "cookie") {
					utk = headerUTK(gjson.Parse(`{"cookie":` + v.Raw + `}`))
				}
				return utk == ""
			})
		}
		return utk == ""
	})
	return utk
}

// cookieUTK takes the token out of a Cookie header.
func cookieUTK(line string) string {
	for cookie := range strings.SplitSeq(line, ";") {
		if name, value, ok := strings.Cut(strings.TrimSpace(cookie), "="); ok && name == utkField {
			return strings.Trim(strings.TrimSpace(value), `"`)
		}
	}
	return ""
}

// planEvent says where the entries of a custom event go. contact is the plan of the person's contact; lost is why there is none.
func (d *Destination) planEvent(ev *event.Event, eventType string, contact destinations.Plan, lost error) ([]destinations.Plan, error) {
	describes := d.contacts.describes(eventType)
	switch {
	case d.rules.excluded(eventType) && describes && lost == nil:
		return []destinations.Plan{contact}, nil
	case d.rules.excluded(eventType) && !describes:
		return nil, destinations.Skip(excludedReason)
	case lost == nil && d.contacts.key == objectIDProperty && !describes: // its contact exists
		return []destinations.Plan{{Lane: laneEvents, Key: contact.Key, ID: contact.ID}}, nil
	case lost == nil:
		// An event belongs to a contact that HubSpot may not have yet.
		contact.IfNew = !describes
		return []destinations.Plan{contact, {Lane: laneEvents, Key: contact.Key, ID: contact.ID}}, nil
	}
	p := d.contacts.eventPerson(ev, "")
	known := p.objectID != "" || p.email != "" || len(p.lost) > 0 // in contrast to a stranger on the web site
	if p.none() || !known && !d.rules.visitors || d.rules.excluded(eventType) {
		return nil, lost
	}
	return []destinations.Plan{{Lane: laneEvents}}, nil // there is no contact write to wait for
}

// identify finds out whom each entry's event is about, and returns the entries of which that can be said. It settles the others.
func (s *eventSend) identify(ctx context.Context) (entries []int) {
	now := time.Now()
	s.people = make([]person, len(s.batch))
	entries = make([]int, 0, len(s.batch))
	var unknown []int
	for i := range s.batch {
		p := &s.people[i]
		id := s.batch[i].Plan.ID
		*p = s.d.contacts.eventPerson(s.batch[i].Event, id)
		if p.email != "" && s.d.account.emailRefused(p.email, now) {
			p.loseEmail(reasonRefused)
		}
		switch {
		case !p.none():
			entries = append(entries, i)
		case id != "" && s.d.contacts.ownKey():
			if p.objectID = s.d.account.contactIDs.get(contactKey{s.d.contacts.key, id}); p.objectID == "" {
				unknown = append(unknown, i)
				break
			}
			p.lookedUp = true
			entries = append(entries, i)
		default:
			s.out[i].Err = destinations.Reject(errors.New("HubSpot refuses the e-mail address of the event's contact"))
		}
	}
	if len(unknown) > 0 {
		entries = append(entries, s.lookUp(ctx, unknown)...)
		slices.Sort(entries)
	}
	return entries
}

const (
	// lookUpTries is how often a contact is looked for that was written a moment ago.
	lookUpTries = 3
	lookUpWait  = 5 * time.Second
)

// lookUp asks HubSpot for the numbers of the contacts that are known by a property which events cannot name.
func (s *eventSend) lookUp(ctx context.Context, unknown []int) (entries []int) {
	key := s.d.contacts.key
	var ids []string
	for _, i := range unknown {
		if id := s.batch[i].Plan.ID; !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	read, err := s.d.readContacts(ctx, s.permits, key, ids, []string{objectIDProperty})
	if forbidden := (*forbiddenError)(nil); errors.As(err, &forbidden) { // that is no word about custom events
		err = destinations.RetryAfter(fmt.Errorf("read contacts: %w", forbidden), lookUpForbidden)
	}
	for _, i := range unknown {
		id := s.batch[i].Plan.ID
		number := read.found[id][objectIDProperty]
		switch {
		case err != nil:
			s.out[i].Err = outsideLane(err)
		case isObjectID(number):
			s.d.account.contactIDs.put(contactKey{key, id}, number)
			s.people[i].objectID, s.people[i].lookedUp = number, true
			entries = append(entries, i)
		default:
			s.out[i].Err = s.noContact(i)
		}
	}
	return entries
}

// lookUpForbidden is the wait after a 403, which somebody has to see to.
const lookUpForbidden = 5 * time.Minute

// noContact is the outcome of an event whose contact HubSpot does not have.
func (s *eventSend) noContact(i int) error {
	err := fmt.Errorf("the event has no e-mail address, and HubSpot no contact whose %s is %s", s.d.contacts.key, shorten(s.batch[i].Plan.ID))
	if s.batch[i].Attempt < lookUpTries {
		return destinations.RetryAfter(err, lookUpWait)
	}
	return destinations.Reject(err)
}

// contactKey is what identifies a contact by a property of the account's own.
type contactKey struct{ property, id string }

// contactIDs remembers the numbers of contacts that are known by such a property.
type contactIDs struct {
	mu         sync.Mutex // guards the fields below
	young, old map[contactKey]string
}

// maxContactIDs bounds each half of what is remembered; the older half is dropped when the younger is full.
const maxContactIDs = 20000

func (c *contactIDs) put(key contactKey, number string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.young == nil || len(c.young) >= maxContactIDs {
		c.young, c.old = map[contactKey]string{}, c.young
	}
	c.young[contactKey{key.property, strings.Clone(key.id)}] = strings.Clone(number)
}

// get returns "" for one that is not known.
func (c *contactIDs) get(key contactKey) string {
	c.mu.Lock()
	number, ok := c.young[key]
	if !ok {
		number, ok = c.old[key]
		c.mu.Unlock()
		if ok {
			c.put(key, number)
		}
		return number
	}
	c.mu.Unlock()
	return number
}

func (c *contactIDs) forget(key contactKey) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.young, key)
	delete(c.old, key)
}

// ownKey says whether contacts are known by a property that only the account has.
func (c *contacts) ownKey() bool { return c.key != emailProperty && c.key != objectIDProperty }
