package hubspot

import (
	"errors"
	"fmt"
	"strings"
	"unicode"

	"github.com/tidwall/gjson"

	"eventrouter/pkg/destinations"
	"eventrouter/pkg/event"
)

// identifyType is the event type that describes a person; every other one is something that the person did.
const identifyType = "user_identify"

// maxEmail is the length that fits into a mail envelope (RFC 5321).
const maxEmail = 254

// maxKey is how long the value of an id_property other than the e-mail may be. HubSpot takes more; nobody means it.
const maxKey = 512

// maxObjectID is how many digits the number of a contact may have: HubSpot's are of 64 bits.
const maxObjectID = 19

// noIdentity is why events of nobody are skipped.
const noIdentity = "no identity"

// Plan implements [destinations.Destination].
func (d *Destination) Plan(ev *event.Event) ([]destinations.Plan, error) {
	id, err := d.contacts.person(ev)
	switch {
	case err != nil:
		err = destinations.Reject(err)
	case id == "" && d.contacts.rejectLost:
		err = fmt.Errorf("the event has no %s, which identifies contacts (id_property); missing_key is %s", d.contacts.key, missingReject)
		err = destinations.Unidentified(destinations.Reject(err))
	case id == "":
		err = destinations.Unidentified(destinations.Skip(noIdentity))
	}
	// HubSpot compares some of these regardless of case: then the order of their writes must not depend on it.
	contact := destinations.Plan{Lane: laneContacts, Key: strings.ToLower(id), ID: id}
	switch eventType := ev.Type(); {
	case eventType != identifyType:
		return d.planEvent(ev, eventType, contact, err)
	case err != nil:
		return nil, err
	}
	return []destinations.Plan{contact}, nil
}

// person is the value by which HubSpot knows the event's person; "" when the event has none.
func (c *contacts) person(ev *event.Event) (string, error) {
	var v gjson.Result
	switch {
	case c.key == emailProperty:
		return c.email(ev)
	case c.expressions.has(c.key):
		var err error
		if v, err = c.expressions.one(c.key, ev); err != nil {
			return "", fmt.Errorf("properties.map.%s: %w", c.key, err)
		}
	default:
		v = memberFor(ev.User(), c.key)
	}
	if v.Type != gjson.String && v.Type != gjson.Number {
		return "", nil
	}
	id, _ := plainText(v)
	id = strings.TrimSpace(id)
	switch {
	case id == "":
		return "", nil
	case c.key == objectIDProperty:
		id = strings.TrimLeft(id, "0") // of one contact there is one id
		if !isDigits(id) || len(id) > maxObjectID {
			return "", errors.New("hs_object_id is not the number of a contact")
		}
	case len(id) > maxKey:
		return "", fmt.Errorf("%s is longer than %d bytes", c.key, maxKey)
	case strings.ContainsFunc(id, func(r rune) bool { return r == unicode.ReplacementChar || unicode.IsControl(r) }):
		return "", fmt.Errorf("%s holds a character that does not print", c.key)
	}
	return strings.Clone(id), nil // else the whole event stays in memory
}

// email is the event's address, as it is written to its contact; "" when it has none.
func (c *contacts) email(ev *event.Event) (string, error) {
	email := ev.UserEmail()
	if c.expressions.has(emailProperty) {
		v, err := c.expressions.one(emailProperty, ev)
		if err != nil {
			return "", fmt.Errorf("properties.map.%s: %w", emailProperty, err)
		}
		if email = v.Str; absent(v) {
			email = ev.Email
		}
	}
	if email = strings.ToLower(strings.TrimSpace(email)); email == "" {
		return "", nil
	}
	return email, checkEmail(email)
}

// memberFor is the member of the user that means the property: the one of exactly that name, else the last one that comes to it.
func memberFor(user gjson.Result, property string) (found gjson.Result) {
	user.ForEach(func(k, v gjson.Result) bool {
		if absent(v) {
			return true
		}
		if k.Str == property {
			found = v
			return false
		}
		if cleanName(k.Str) == property || snakeName(k.Str) == property {
			found = v
		}
		return true
	})
	return found
}

// checkEmail refuses what cannot be an e-mail address. It passes everything doubtful: HubSpot has the last word.
func checkEmail(s string) error {
	at := strings.LastIndexByte(s, '@')
	switch {
	case len(s) > maxEmail:
		return errors.New("the e-mail address is longer than 254 bytes")
	case at < 0:
		return errors.New("the e-mail address has no @")
	case at == 0:
		return errors.New("the e-mail address has nothing before the @")
	case at == len(s)-1:
		return errors.New("the e-mail address has nothing after the @")
	}
	local, domain := s[:at], s[at+1:]
	quoted := len(local) > 2 && local[0] == '"' && local[len(local)-1] == '"'
	for _, r := range s {
		if r == unicode.ReplacementChar || unicode.IsControl(r) || unicode.IsSpace(r) && !(quoted && r == ' ') {
			return errors.New("the e-mail address holds a space or a character that does not print")
		}
	}
	if strings.ContainsAny(domain, " \"(),:;<>[]\\") || strings.Contains(domain, "..") || domain[0] == '.' || domain[len(domain)-1] == '.' {
		return errors.New("the e-mail address has no valid domain")
	}
	if !quoted && strings.ContainsAny(local, "@\"(),:;<>[]\\") {
		return errors.New("the e-mail address holds a character that is not allowed before the @")
	}
	return nil
}
