package hubspot

import (
	"errors"
	"strings"
	"unicode"

	"eventrouter/pkg/destinations"
	"eventrouter/pkg/event"
)

// identifyType is the event type that describes a person; every other one is something that the person did.
const identifyType = "user_identify"

// maxEmail is the length that fits into a mail envelope (RFC 5321).
const maxEmail = 254

// Plan implements [destinations.Destination].
func (d *Destination) Plan(ev *event.Event) ([]destinations.Plan, error) {
	email := strings.TrimSpace(ev.UserEmail())
	if email == "" {
		return nil, destinations.Skip("no identity")
	}
	id := strings.ToLower(email)
	if err := checkEmail(id); err != nil {
		return nil, destinations.Reject(err)
	}
	contact := destinations.Plan{Lane: laneContacts, Key: id, ID: id}
	if ev.Type() == identifyType {
		return []destinations.Plan{contact}, nil
	}
	// An event belongs to a contact that HubSpot may not have yet.
	contact.IfNew = !d.contacts.describes(ev.Type())
	return []destinations.Plan{contact, {Lane: laneEvents, Key: id, ID: id}}, nil
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
