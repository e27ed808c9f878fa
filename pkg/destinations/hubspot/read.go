package hubspot

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/tidwall/gjson"

	"eventrouter/pkg/event"
)

// Names of the calls that read contacts.
const (
	endpointRead    = "contacts.batch_read"
	endpointReadOne = "contacts.read"
)

// categoryNotFound is HubSpot's word for a record that does not exist.
const categoryNotFound = "OBJECT_NOT_FOUND"

// additionalEmailsProperty holds the other e-mail addresses of a contact.
const additionalEmailsProperty = "hs_additional_emails"

// contactsRead is what HubSpot has of contacts: the properties that have a value, by the id that was asked for.
type contactsRead struct {
	found   map[string]map[string]string
	refused map[string]bool // ids that HubSpot does not take, so that nothing is known of the contact
}

// reader reads contacts that are known by one property.
type reader struct {
	d          *Destination
	permits    *permits
	by         string // the property that identifies contacts
	properties []string
	read       contactsRead
}

// readContacts asks HubSpot for the properties of the contacts whose property by has the ids. A contact that is not in the result does not
// exist. The error is an outcome.
func (d *Destination) readContacts(ctx context.Context, ps *permits, by string, ids, properties []string) (contactsRead, error) {
	r := &reader{d: d, permits: ps, by: by, properties: properties}
	r.read = contactsRead{found: make(map[string]map[string]string, len(ids)), refused: map[string]bool{}}
	for part := range slices.Chunk(ids, maxContacts) {
		if err := r.ask(ctx, part); err != nil {
			return r.read, fmt.Errorf("read contacts: %w", err)
		}
	}
	return r.read, nil
}

// ask reads the contacts with these ids. Where the answer leaves open who is meant they are asked for in halves.
func (r *reader) ask(ctx context.Context, ids []string) error {
	a, err := r.d.call(ctx, r.permits, request{
		endpoint: endpointRead, method: http.MethodPost, url: r.d.baseURL + r.d.paths.contacts + "/batch/read?archived=false",
		body: r.body(ids),
	}, http.StatusNotFound, http.StatusBadRequest)
	if err != nil {
		return err
	}
	switch a.status {
	case http.StatusNotFound:
		return r.absent(ctx, ids, a)
	case http.StatusBadRequest:
		if len(ids) == 1 {
			r.read.refused[ids[0]] = true
			return nil
		}
		return r.halves(ctx, ids)
	}
	res, ok := parseRead(a.body)
	if !ok {
		return fmt.Errorf("HubSpot answered %d with no results (correlation id %s)", a.status, a.correlation)
	}
	return r.assign(ctx, ids, &res)
}

// absent takes in a 404, which names the contacts that do not exist, or is about the path.
func (r *reader) absent(ctx context.Context, ids []string, a *answer) error {
	refusal := parseRefusal(a.body)
	if refusal.category != categoryNotFound && len(refusal.ids) == 0 {
		return a.noSuchPath()
	}
	if len(ids) == 1 {
		return nil
	}
	rest := slices.DeleteFunc(slices.Clone(ids), func(id string) bool { return r.names(refusal.ids, id) })
	switch len(rest) {
	case 0:
		return nil
	case len(ids):
		return r.halves(ctx, ids)
	}
	return r.ask(ctx, rest)
}

func (r *reader) halves(ctx context.Context, ids []string) error {
	half := len(ids) / 2
	if err := r.ask(ctx, ids[:half]); err != nil {
		return err
	}
	return r.ask(ctx, ids[half:])
}

func (r *reader) names(list []string, id string) bool {
	return slices.ContainsFunc(list, func(s string) bool { return r.fold(s) == r.fold(id) })
}

// fold makes ids comparable that HubSpot takes for the same.
func (r *reader) fold(id string) string {
	if r.by == emailProperty {
		return strings.ToLower(strings.TrimSpace(id))
	}
	return id
}

// assign finds out whose the results are: they come in any order, one for two ids of a contact, and an address may be one of its others. An id
// that is named neither as found nor as missing is asked for alone.
func (r *reader) assign(ctx context.Context, ids []string, res *readAnswer) error {
	byID := make(map[string]*contactRecord, len(res.contacts))
	for i := range res.contacts {
		c := &res.contacts[i]
		for _, id := range r.idsOf(c) {
			byID[r.fold(id)] = c
		}
	}
	used := make(map[*contactRecord]bool, len(ids))
	var open []string
	for _, id := range ids {
		switch c := byID[r.fold(id)]; {
		case c != nil:
			r.read.found[id] = c.values
			used[c] = true
		case !r.names(res.missing, id):
			open = append(open, id)
		}
	}
	if len(open) == 0 {
		return nil
	}
	if len(used) < len(res.contacts) { // some contact was found that does not say by which id
		switch {
		case len(ids) == 1:
			r.read.found[ids[0]] = res.contacts[0].values
			return nil
		case len(open) < len(ids):
			return r.ask(ctx, open)
		}
		return r.halves(ctx, open)
	}
	for i, id := range open {
		if i > 0 && !res.failed && r.d.account.unnamed.Load() >= maxUnnamed {
			break
		}
		if err := r.askForOne(ctx, id); err != nil {
			return err
		}
		if r.read.refused[id] || r.read.found[id] != nil {
			r.d.account.unnamed.Store(0)
		} else {
			r.d.account.unnamed.Add(1)
		}
	}
	return nil
}

// maxUnnamed is how many contacts in a row that a batch read does not name have to be missing until one of each read is asked for alone, not all:
// such a HubSpot just leaves out who is missing, and a call for each would use up the quota.
const maxUnnamed = 100

// askForOne reads a contact that a batch read names neither as found nor as missing. To take it for missing would be to write over what it has.
func (r *reader) askForOne(ctx context.Context, id string) error {
	query := url.Values{"properties": {strings.Join(r.properties, ",")}, "archived": {"false"}}
	if r.by != objectIDProperty {
		query.Set("idProperty", r.by)
	}
	a, err := r.d.call(ctx, r.permits, request{
		endpoint: endpointReadOne, method: http.MethodGet,
		url: r.d.baseURL + r.d.paths.contacts + "/" + url.PathEscape(id) + "?" + query.Encode(),
	}, http.StatusNotFound, http.StatusBadRequest)
	if err != nil {
		return err
	}
	switch record := gjson.ParseBytes(a.body); {
	case a.status == http.StatusNotFound:
	case a.status == http.StatusBadRequest:
		r.read.refused[id] = true
	case !record.Get("properties").IsObject():
		return fmt.Errorf("HubSpot answered %d with no contact (correlation id %s)", a.status, a.correlation)
	default:
		r.read.found[id] = parseRecord(record).values
	}
	return nil
}

// idsOf lists all that the contact could have been asked for by.
func (r *reader) idsOf(c *contactRecord) []string {
	switch r.by {
	case objectIDProperty:
		return []string{c.id}
	case emailProperty:
		return append(strings.Split(c.values[additionalEmailsProperty], ";"), c.values[emailProperty])
	}
	return []string{c.values[r.by]}
}

// body writes the call. HubSpot takes the contact id without its name.
func (r *reader) body(ids []string) []byte {
	dst := append(make([]byte, 0, 64+48*len(ids)), '{')
	properties := r.properties
	if r.by != objectIDProperty {
		dst = append(dst, `"idProperty":`...)
		dst = event.AppendString(dst, r.by)
		dst = append(dst, ',')
		properties = append(slices.Clone(properties), r.by)
	}
	if r.by == emailProperty {
		properties = append(properties, additionalEmailsProperty)
	}
	dst = append(dst, `"inputs":[`...)
	for i, id := range ids {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, `{"id":`...)
		dst = event.AppendString(dst, id)
		dst = append(dst, '}')
	}
	dst = append(dst, `],"properties":`...)
	dst = appendNames(dst, properties)
	return append(dst, `,"propertiesWithHistory":[]}`...)
}

// contactRecord is one contact in an answer: its properties that have a value, its id among them.
type contactRecord struct {
	id     string
	values map[string]string
}

// readAnswer is the answer to a batch read.
type readAnswer struct {
	contacts []contactRecord
	missing  []string // ids that no contact has
	failed   bool     // there is an error of another kind
}

// parseRead reads the answer to a batch read; ok is false when it has no list of results.
func parseRead(body []byte) (a readAnswer, ok bool) {
	gjson.ParseBytes(body).ForEach(func(k, v gjson.Result) bool {
		if !v.IsArray() {
			return true
		}
		switch k.Str {
		case "results":
			ok = true
			v.ForEach(func(_, r gjson.Result) bool {
				if r.IsObject() {
					a.contacts = append(a.contacts, parseRecord(r))
				}
				return true
			})
		case "errors":
			v.ForEach(func(_, e gjson.Result) bool {
				refusal := parseRefusal([]byte(e.Raw))
				if refusal.category == categoryNotFound {
					a.missing = append(a.missing, refusal.ids...)
				} else {
					a.failed = true
				}
				return true
			})
		}
		return true
	})
	return a, ok
}

func parseRecord(r gjson.Result) contactRecord {
	c := contactRecord{id: r.Get("id").String(), values: map[string]string{}}
	r.Get("properties").ForEach(func(k, v gjson.Result) bool {
		if text := v.String(); text != "" && v.Type != gjson.Null {
			c.values[strings.Clone(k.Str)] = strings.Clone(text)
		}
		return true
	})
	c.values[objectIDProperty] = c.id
	return c
}
